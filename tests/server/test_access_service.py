# SPDX-License-Identifier: Apache-2.0
"""AccessService: keys work at once, end at once, and give away no more than their maker has."""

import grpc
from server.api import ADMIN, DENIED, METER, READ, Api, new_tenant

from taximeter.v1 import (
    access_service_pb2,
    rate_card_service_pb2,
)
from taximeter_server import __version__


def test_who_am_i_shows_the_caller(api: Api) -> None:
    """A key learns its id, role, bounds and the server's version."""
    caller = api.with_new_key(METER, "acme", "beta/x")
    answer = caller.call(caller.access.WhoAmI, access_service_pb2.WhoAmIRequest())

    assert (answer.role, list(answer.tenants)) == (METER, ["acme", "beta/x"])
    assert answer.server_version == __version__
    assert answer.key_id in caller.metadata[0][1]


def test_principal_cannot_be_forged(api: Api) -> None:
    """Names of the private side that come in from outside count for nothing."""
    caller = api.with_new_key(READ, "acme")
    forged = (("x-taximeter-role", "admin"), ("x-taximeter-tenants", ""), ("x-taximeter-key-id", "root"))
    answer = caller.access.WhoAmI(
        access_service_pb2.WhoAmIRequest(), metadata=(*caller.metadata, *forged), timeout=5
    )

    assert (answer.role, list(answer.tenants)) == (READ, ["acme"])


def test_key_works_at_once_and_not_after_its_end(api: Api) -> None:
    """A created key works in the next call; a revoked one is refused in the next call."""
    caller = api.with_new_key(READ)
    key_id = caller.call(caller.access.WhoAmI, access_service_pb2.WhoAmIRequest()).key_id
    request = access_service_pb2.RevokeKeyRequest(key_id=key_id)
    revoked = api.call(api.access.RevokeKey, request)

    assert revoked.key.HasField("revoke_time")
    assert api.call(api.access.RevokeKey, request) == revoked
    assert caller.fail(caller.access.WhoAmI, access_service_pb2.WhoAmIRequest()) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_REQUIRED",
    )


def test_keys_are_listed_without_secrets(api: Api) -> None:
    """ListKeys shows every key over its pages, newest first, and nothing that authenticates."""
    for _ in range(3):
        api.with_new_key(READ)
    keys: list[access_service_pb2.Key] = []
    token = ""
    while True:
        request = access_service_pb2.ListKeysRequest(page_size=2, page_token=token)
        page = api.call(api.access.ListKeys, request)
        keys += page.keys
        token = page.next_page_token
        if not token:
            break

    times = [key.create_time.ToNanoseconds() for key in keys]
    assert len({key.key_id for key in keys}) == len(keys) >= 4
    assert times == sorted(times, reverse=True)


def test_the_last_use_of_a_key_is_known(api: Api) -> None:
    """A key that was used says when, and one that never was does not."""
    used, unused = api.with_new_key(READ), api.with_new_key(READ)
    key_id = used.call(used.access.WhoAmI, access_service_pb2.WhoAmIRequest()).key_id
    keys = api.call(api.access.ListKeys, access_service_pb2.ListKeysRequest(page_size=1000)).keys
    by_id = {key.key_id: key for key in keys}

    use_ms = by_id[key_id].last_use_time.ToMilliseconds()
    assert abs(use_ms - by_id[key_id].create_time.ToMilliseconds()) < 60_000
    assert not by_id[unused.metadata[0][1].split("_")[1]].HasField("last_use_time")


def test_a_rotated_key_and_its_successor_both_work(api: Api) -> None:
    """Over the grace period two keys are in force; without one the old key ends at once."""
    old = api.with_new_key(READ, new_tenant())
    who = access_service_pb2.WhoAmIRequest()
    key_id = old.call(old.access.WhoAmI, who).key_id
    answer = api.call(api.access.RotateKey, access_service_pb2.RotateKeyRequest(key_id=key_id))
    new = api.with_key(answer.secret)

    assert old.call(old.access.WhoAmI, who).tenants == new.call(new.access.WhoAmI, who).tenants
    again = access_service_pb2.RotateKeyRequest(key_id=answer.key.key_id)
    again.grace_period.FromSeconds(0)
    last = api.with_key(api.call(api.access.RotateKey, again).secret)
    assert new.fail(new.access.WhoAmI, who)[1] == "CREDENTIALS_REQUIRED"
    assert last.call(last.access.WhoAmI, who).role == READ
    assert api.fail(api.access.RotateKey, again)[1] == "KEY_ENDED"


def test_bound_admin_cannot_reach_beyond_its_bounds(api: Api) -> None:
    """A bound admin makes, sees and revokes keys within its bounds only, and publishes no card."""
    own, other = new_tenant(), new_tenant()
    bound, outside = api.with_new_key(ADMIN, own), api.with_new_key(READ, other)
    outside_id = outside.call(outside.access.WhoAmI, access_service_pb2.WhoAmIRequest()).key_id
    inside = bound.with_new_key(READ, f"{own}/team")
    listed = bound.call(bound.access.ListKeys, access_service_pb2.ListKeysRequest()).keys

    key = access_service_pb2.Key
    for tenants in ([], [other], [own, other]):
        request = access_service_pb2.CreateKeyRequest(key=key(role=READ, tenants=tenants))
        assert bound.fail(bound.access.CreateKey, request) == DENIED
    for key_id in (outside_id, "unknownkeyid"):
        assert (
            bound.fail(bound.access.RevokeKey, access_service_pb2.RevokeKeyRequest(key_id=key_id)) == DENIED
        )
    card = rate_card_service_pb2.PublishRateCardRequest(yaml="billing: {}")
    assert bound.fail(bound.rate_cards.PublishRateCard, card) == DENIED
    assert {tuple(each.tenants) for each in listed} == {(own,), (f"{own}/team",)}
    assert inside.call(inside.access.WhoAmI, access_service_pb2.WhoAmIRequest()).tenants == [f"{own}/team"]
