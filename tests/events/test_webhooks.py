# SPDX-License-Identifier: Apache-2.0
"""Webhooks of the real server, received by a real HTTP server and verified by the reference implementation."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from events.conftest import WAIT_TIMEOUT_S, Receiver, used_up
from server.api import ADMIN, Api, connect, new_tenant
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from harness.server_process import ServerProcess
from harness.store_process import StoreProcess
from taximeter.v1 import event_service_pb2 as pb

DELIVERED, FAILED, PENDING = (
    pb.WEBHOOK_DELIVERY_STATE_DELIVERED,
    pb.WEBHOOK_DELIVERY_STATE_FAILED,
    pb.WEBHOOK_DELIVERY_STATE_PENDING,
)


def put(api: Api, url: str, *tenants: str, **fields: object) -> pb.PutWebhookEndpointResponse:
    """Put an endpoint."""
    endpoint = pb.WebhookEndpoint(url=url, tenants=tenants, **fields)  # type: ignore[arg-type]
    request = pb.PutWebhookEndpointRequest(endpoint=endpoint)
    answer: pb.PutWebhookEndpointResponse = api.call(api.events.PutWebhookEndpoint, request)
    return answer


def deliveries(api: Api, endpoint_id: str) -> list[pb.WebhookDelivery]:
    """Return the deliveries of an endpoint, newest first."""
    request = pb.ListWebhookDeliveriesRequest(endpoint_id=endpoint_id)
    return list(api.call(api.events.ListWebhookDeliveries, request).deliveries)


def endpoint(api: Api, endpoint_id: str) -> pb.WebhookEndpoint:
    """Return an endpoint as it is listed."""
    listed = api.call(api.events.ListWebhookEndpoints, pb.ListWebhookEndpointsRequest()).endpoints
    (found,) = (one for one in listed if one.id == endpoint_id)
    return pb.WebhookEndpoint.FromString(found.SerializeToString())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_events_are_sent_signed(api: Api, receiver: Receiver) -> None:
    """Each event of the endpoint's tenants is posted, and the reference implementation accepts it."""
    tenant = new_tenant()
    created = put(api, receiver.url, tenant, threshold_percent_min=80)
    used_up(api)
    used_up(api, tenant, tokens=96)
    messages = receiver.wait_for(2)
    events = api.call(api.events.ListQuotaEvents, pb.ListQuotaEventsRequest(tenant=tenant)).events
    wait_until(lambda: all(one.state == DELIVERED for one in deliveries(api, created.endpoint.id)))

    verified = [Webhook(created.secret).verify(message.body, message.headers) for message in messages]
    told = {event.id: event for event in events if event.threshold_percent >= 80}
    assert {message.headers["webhook-id"] for message in messages} == set(told)
    assert {message.path for message in messages} == {"/hook?of=quota"}
    for document in verified:
        event = told[document["data"]["id"]]
        assert document == {
            "type": "quota.threshold_reached",
            "timestamp": document["timestamp"],
            "data": {
                "id": event.id,
                "tenant": tenant,
                "limit": "tokens_per_day",
                "threshold_percent": event.threshold_percent,
                "maximum": "100",
                "used": "96",
                "window_start_time": document["data"]["window_start_time"],
            },
        }
    log = deliveries(api, created.endpoint.id)
    assert [(one.event.id in told, one.attempt_count, one.last_status, one.last_problem) for one in log] == [
        (True, 1, 204, "")
    ] * 2


def test_a_message_that_was_changed_is_not_accepted(api: Api, receiver: Receiver) -> None:
    """The signature covers body and id."""
    tenant = new_tenant()
    created = put(api, receiver.url, tenant, threshold_percent_min=100)
    used_up(api, tenant)
    (message,) = receiver.wait_for(1)
    webhook = Webhook(created.secret)

    for body, headers in (
        (message.body.replace(b'"100"', b'"900"'), message.headers),
        (message.body, {**message.headers, "webhook-id": "evt_other"}),
    ):
        with pytest.raises(WebhookVerificationError):
            webhook.verify(body, headers)


def test_a_rotated_secret_signs_beside_the_new_one(api: Api, receiver: Receiver) -> None:
    """While secrets overlap both verify; without overlap only the new one does. A third drops the first."""
    tenant = new_tenant()
    created = put(api, receiver.url, tenant, threshold_percent_min=100)
    request = pb.RotateWebhookSecretRequest(endpoint_id=created.endpoint.id)
    second = api.call(api.events.RotateWebhookSecret, request)
    third = api.call(api.events.RotateWebhookSecret, request)
    used_up(api, tenant)
    (message,) = receiver.wait_for(1)

    assert len(message.headers["webhook-signature"].split(" ")) == 2
    for secret in (second.secret, third.secret):
        Webhook(secret).verify(message.body, message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(created.secret).verify(message.body, message.headers)
    assert third.endpoint.HasField("old_secret_expire_time")
    request.overlap.FromTimedelta(timedelta(0))
    assert not api.call(api.events.RotateWebhookSecret, request).endpoint.HasField("old_secret_expire_time")


def test_what_fails_is_sent_again_by_the_same_id(api: Api, receiver: Receiver) -> None:
    """Errors and redirects are no success; the next attempt has the same id and body, and the log says why."""
    tenant = new_tenant()
    receiver.answers = [500, 302, 200]
    receiver.headers = {"location": receiver.url.replace("hook", "elsewhere")}
    created = put(api, receiver.url, tenant, threshold_percent_min=100)
    used_up(api, tenant)
    receiver.wait_for(1)
    wait_until(lambda: deliveries(api, created.endpoint.id)[0].attempt_count == 1)
    (waiting,) = deliveries(api, created.endpoint.id)
    failing = endpoint(api, created.endpoint.id)
    messages = receiver.wait_for(3)
    wait_until(lambda: deliveries(api, created.endpoint.id)[0].state == DELIVERED)

    assert (waiting.state, waiting.last_status, waiting.last_problem) == (PENDING, 500, "answered 500")
    wait_ms = waiting.next_attempt_time.ToMilliseconds() - waiting.last_attempt_time.ToMilliseconds()
    assert 800 <= wait_ms <= 1_200
    assert failing.HasField("failing_since_time")
    assert not endpoint(api, created.endpoint.id).HasField("failing_since_time")
    assert {message.path for message in messages} == {"/hook?of=quota"}
    assert len({(message.headers["webhook-id"], message.body) for message in messages}) == 1
    assert deliveries(api, created.endpoint.id)[0].attempt_count == 3


def test_an_endpoint_that_is_gone_is_disabled_until_it_is_put_again(api: Api, receiver: Receiver) -> None:
    """410 ends it: nothing more is sent, and everybody can see that."""
    tenant = new_tenant()
    receiver.answers = [410, 200]
    created = put(api, receiver.url, tenant, threshold_percent_min=95)
    used_up(api, tenant, tokens=95)
    receiver.wait_for(1)
    wait_until(lambda: endpoint(api, created.endpoint.id).state == pb.WEBHOOK_STATE_DISABLED)
    used_up(api, tenant, tokens=5)
    again = put(api, receiver.url, tenant, id=created.endpoint.id)
    used_up(api, f"{tenant}/a", tokens=50)
    messages = receiver.wait_for(2)

    assert [(one.state, one.last_status) for one in deliveries(api, created.endpoint.id)][-1] == (FAILED, 410)
    assert again.secret == ""
    assert again.endpoint.state == pb.WEBHOOK_STATE_ENABLED
    assert json.loads(messages[1].body)["data"]["tenant"] == f"{tenant}/a"
    Webhook(created.secret).verify(messages[1].body, messages[1].headers)


def test_what_is_due_survives_a_kill_of_the_server(
    fresh_server: Callable[[], ServerProcess], receiver: Receiver
) -> None:
    """A server that was killed between attempts goes on when it is back, and never writes a secret into its log."""
    server = fresh_server()
    receiver.answers = [503, 200]
    with connect(server.address, server.admin_key) as api:
        tenant = new_tenant()
        created = put(api, receiver.url, tenant, threshold_percent_min=100)
        used_up(api, tenant)
        receiver.wait_for(1)
    server.kill()
    server.start()
    messages = receiver.wait_for(2)

    assert len({message.headers["webhook-id"] for message in messages}) == 1
    Webhook(created.secret).verify(messages[-1].body, messages[-1].headers)
    assert created.secret.removeprefix("whsec_") not in server.log


def test_of_several_servers_one_sends(
    fresh_server: Callable[..., ServerProcess], receiver: Receiver, tmp_path: Path
) -> None:
    """Servers on one store send each event once; when the one that does ends, another goes on."""
    with StoreProcess(tmp_path / "store") as store:
        arguments = ("--store", store.url, "--allow-volatile", "--ledger", str(tmp_path / "ledger"))
        servers = [fresh_server(arguments=arguments) for _ in range(2)]
        with connect(servers[1].address, servers[0].admin_key) as api:
            tenant = new_tenant()
            created = put(api, receiver.url, tenant)
            used_up(api, tenant)
            receiver.wait_for(4)
            wait_until(lambda: {one.state for one in deliveries(api, created.endpoint.id)} == {DELIVERED})
            assert servers[0].stop() == 0
            used_up(api, f"{tenant}/a", tokens=50)
            messages = receiver.wait_for(5)
            assert servers[1].stop() == 0

    assert len({message.headers["webhook-id"] for message in messages}) == len(messages) == 5


BAD = {
    "no URL": ("", {}, "FIELD_REQUIRED"),
    "http elsewhere": ("http://example.com/hook", {}, "FIELD_INVALID"),
    "another scheme": ("ftp://localhost/hook", {}, "FIELD_INVALID"),
    "a password": ("https://user:pw@example.com/", {}, "FIELD_INVALID"),
    "no host": ("https:///hook", {}, "FIELD_INVALID"),
    "a space": ("https://example.com/a b", {}, "FIELD_INVALID"),
    "a port that is none": ("https://example.com:70000/", {}, "FIELD_INVALID"),
    "a percentage that is none": ("https://example.com/", {"threshold_percent_min": 101}, "FIELD_INVALID"),
    "a tenant that is none": ("https://example.com/", {"tenants": ["A B"]}, "FIELD_INVALID"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_endpoints_are_refused(api: Api, case: str) -> None:
    """https, or http to this machine; nothing that would be sent elsewhere or in the clear."""
    url, fields, reason = BAD[case]
    message = pb.WebhookEndpoint(url=url, **fields)  # type: ignore[arg-type]
    request = pb.PutWebhookEndpointRequest(endpoint=message)

    assert api.fail(api.events.PutWebhookEndpoint, request) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_bound_admins_keep_endpoints_of_their_own(api: Api, receiver: Receiver) -> None:
    """A bound key has to name its tenants, and neither sees nor changes the endpoints of others."""
    tenant, other = new_tenant(), new_tenant()
    bound = api.with_new_key(ADMIN, tenant)
    theirs = put(api, receiver.url, other).endpoint
    mine = put(bound, receiver.url, f"{tenant}/a").endpoint
    listed = bound.call(api.events.ListWebhookEndpoints, pb.ListWebhookEndpointsRequest())

    assert [one.id for one in listed.endpoints] == [mine.id]
    unbound = pb.PutWebhookEndpointRequest(endpoint=pb.WebhookEndpoint(url=receiver.url))
    assert bound.fail(api.events.PutWebhookEndpoint, unbound)[1] == "FIELD_REQUIRED"
    for method, request in (
        (api.events.RemoveWebhookEndpoint, pb.RemoveWebhookEndpointRequest(endpoint_id=theirs.id)),
        (api.events.RotateWebhookSecret, pb.RotateWebhookSecretRequest(endpoint_id=theirs.id)),
        (api.events.ListWebhookDeliveries, pb.ListWebhookDeliveriesRequest(endpoint_id=theirs.id)),
    ):
        assert bound.fail(method, request) == (grpc.StatusCode.NOT_FOUND, "WEBHOOK_UNKNOWN")
    removed = pb.RemoveWebhookEndpointRequest(endpoint_id=mine.id)
    bound.call(api.events.RemoveWebhookEndpoint, removed)
    assert bound.fail(api.events.RemoveWebhookEndpoint, removed)[1] == "WEBHOOK_UNKNOWN"
