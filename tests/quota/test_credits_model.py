# SPDX-License-Identifier: Apache-2.0
"""Credits against their model: whatever happens in whatever order, store and model agree to the last microcredit."""

import itertools
import json
import secrets
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from quota.conftest import Stepped
from quota.credit_model import Line, ModelAccount
from quota.engine_calls import catalogue

from taximeter.v1 import metering_service_pb2 as pb
from taximeter_server.credit_grant import ALLOW, BLOCK, OVERDRAFT, PAID, PROMO, AccountSettings, Grant
from taximeter_server.credits import Credits
from taximeter_server.document_changes import DocumentChanges
from taximeter_server.ledger import partition_of

CARD = """
billing:
  rate_card:
    "m":
      input: 3.7
      output: 11.1
    "n":
      input: 0.05
      output: 0.2
"""
PRICES = {"m": (3_700_000, 11_100_000), "n": (50_000, 200_000)}
TENANTS = (f"credits{number}" for number in itertools.count())
TTL_S = 20
# With the second rate every odd number of tokens of m is half a microcredit.
RATES = (1, 7_400_000, 999_999_999_989)

amounts = st.integers(1, 2_000)
grants = st.fixed_dictionaries(
    {
        "amount_microcredits": amounts,
        "kind": st.sampled_from([PAID, PROMO]),
        "priority": st.integers(0, 2),
        "starts_in_s": st.sampled_from([0, 0, 0, 5, 30]),
        "lasts_s": st.sampled_from([0, 3, 10, 40]),
        "models": st.sampled_from([(), (), ("m",), ("n", "other")]),
        "usage_classes": st.sampled_from([(), (), ("input",), ("output",)]),
    }
)
calls = st.tuples(st.sampled_from("mn"), st.integers(0, 400), st.integers(0, 100))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), grants),
        st.tuples(st.just("record"), calls),
        st.tuples(st.just("check"), calls),
        st.tuples(st.just("hold"), calls),
        st.tuples(st.just("settle"), calls),
        st.tuples(st.just("release"), st.none()),
        st.tuples(st.just("void"), st.integers(0, 5)),
        st.tuples(st.just("advance"), st.integers(1, 25)),
        st.tuples(st.just("policy"), st.sampled_from([BLOCK, OVERDRAFT, ALLOW])),
    ),
    min_size=5,
    max_size=30,
)


class Expiries:
    """Keeps when grants expire, as the store does."""

    def __init__(self) -> None:
        self.grant_ids: list[str] = []

    def put_expiry(self, _tenant: str, grant_id: str, _time_ms: int) -> None:
        """Note a grant."""
        self.grant_ids.append(grant_id)


class Side:
    """One account in the store and in the model, of which each step is done to both."""

    def __init__(self, stepped: Stepped, rate: int) -> None:
        self._stepped = stepped
        self.tenant = next(TENANTS)
        self._expiries = Expiries()
        changes = DocumentChanges()
        self._credits = Credits(stepped.engine, self._expiries, changes, lambda: stepped.now_ms)
        found = AccountSettings(picos_per_microcredit=rate, policy=OVERDRAFT, overdraft_microcredits=100)
        self._credits.put_account(self.tenant, found)
        self.model = ModelAccount(found)
        self._holds: list[str] = []

    @property
    def _now(self) -> int:
        return self._stepped.now_ms // 1000

    def policy(self, policy: str) -> None:
        """Change the policy."""
        found = AccountSettings(
            picos_per_microcredit=self.model.settings.picos_per_microcredit,
            policy=policy,
            overdraft_microcredits=100 if policy == OVERDRAFT else 0,
        )
        self._credits.put_account(self.tenant, found)
        self.model.settings = found

    def grant(self, fields: dict[str, Any]) -> None:
        """Grant, twice."""
        starts_in_s, lasts_s = fields.pop("starts_in_s"), fields.pop("lasts_s")
        start_ms = self._stepped.now_ms + starts_in_s * 1000 if starts_in_s else 0
        end_ms = (start_ms or self._stepped.now_ms) + lasts_s * 1000 if lasts_s else 0
        grant = Grant(
            grant_id=f"g{len(self.model.grants)}",
            effective_time_ms=start_ms,
            expire_time_ms=end_ms,
            **fields,
        )
        assert self._credits.grant(self.tenant, grant) == grant
        assert self._credits.grant(self.tenant, grant) == grant
        self.model.grant(grant, self._now, self._stepped.now_ms)

    def record(self, call: tuple[str, int, int], hold_id: str = "") -> None:
        """Record, twice."""
        model, tokens, output_tokens = call
        request = pb.RecordRequest()
        request.record.record_id = secrets.token_hex(16)
        request.record.tenant = f"{self.tenant}/below"
        request.record.model = model
        request.record.hold_id = hold_id
        request.record.usage.uncached_input_tokens = tokens
        request.record.usage.visible_output_tokens = output_tokens
        first = pb.RecordResponse.FromString(self._stepped.engine.record(request.SerializeToString()))
        again = pb.RecordResponse.FromString(self._stepped.engine.record(request.SerializeToString()))
        moves = self.model.record(model, lines_of(call), self._now, hold_id)
        expected = -sum(more for _, more in moves), -sum(more for grant, more in moves if not grant)
        assert (first.credit_microcredits, first.overdrawn_microcredits) == expected
        assert (again.credit_microcredits, again.overdrawn_microcredits) == expected
        assert again.duplicate

    def check(self, call: tuple[str, int, int], *, holds: bool = False) -> None:
        """Ask, and hold."""
        model, tokens, output_tokens = call
        request = pb.CheckQuotaRequest(tenant=f"{self.tenant}/below", model=model)
        request.estimate.uncached_input_tokens = tokens
        request.estimate.visible_output_tokens = output_tokens
        if holds:
            request.hold_ttl.FromSeconds(TTL_S)
        answer = pb.CheckQuotaResponse.FromString(
            self._stepped.engine.check_quota(request.SerializeToString())
        )
        allowed = self.model.is_allowed(model, lines_of(call), self._now)
        assert (answer.decision == pb.DECISION_ALLOW) == allowed
        if holds and allowed:
            until = self._now + 1 + TTL_S
            self.model.hold(answer.hold_id, model, lines_of(call), self._now, until)
            self._holds.append(answer.hold_id)

    def settle(self, call: tuple[str, int, int]) -> None:
        """Settle the oldest hold, or what was one."""
        self.record(call, self._holds.pop(0) if self._holds else "")

    def release(self) -> None:
        """Release the oldest hold."""
        if self._holds:
            hold_id = self._holds.pop(0)
            request = pb.ReleaseHoldRequest(tenant=f"{self.tenant}/below", hold_id=hold_id)
            self._stepped.engine.release_hold(request.SerializeToString())
            self.model.holds.pop(hold_id, None)

    def void(self, number: int) -> None:
        """Void a grant, twice."""
        if number < len(self.model.grants):
            grant_id = f"g{number}"
            self._credits.void(self.tenant, grant_id, "a test")
            self._credits.void(self.tenant, grant_id, "a test")
            self.model.void(grant_id, self._now)

    def advance(self, seconds: int) -> None:
        """Let time pass, and expire what is due."""
        self._stepped.advance(seconds * 1000)
        self.model.expire_all(self._now)
        for grant_id in self._expiries.grant_ids:
            self._credits.expire(self.tenant, grant_id)
            self._credits.expire(self.tenant, grant_id)

    def compare(self) -> None:
        """Compare store and model."""
        found, model = self._credits.account(self.tenant), self.model
        now, held = self._now, self.model.held(self._now)
        assert (found.available_microcredits, found.used_microcredits) == (model.available(now), model.used)
        assert found.overdrawn_microcredits == max(model.overdrawn, 0)
        assert found.held_microcredits == sum(held.values())
        assert {
            one.grant.grant_id: (one.remaining_microcredits, one.held_microcredits) for one in found.grants
        } == {name: (one.remaining, held.get(name, 0)) for name, one in model.grants.items()}
        assert sum(one.remaining for one in model.grants.values()) - model.overdrawn == model.balance

    def compare_ledger(self) -> None:
        """Compare the sum of all entries with the balance, and that of the lines with what was used."""
        rows = self._stepped.engine.rows_of_partition(partition_of(self.tenant)).to_pylist()
        mine = [row for row in rows if row["tenant"].partition("/")[0] == self.tenant]
        moves = [move for row in mine for move in json.loads(row["credit_moves"] or "[]")]
        assert -sum(taken for _, taken in moves) == self.model.balance
        assert sum(row["credits"] for row in mine) == self.model.used
        left = dict.fromkeys(self.model.grants, 0)
        for name, taken in moves:
            if name:
                left[name] -= taken
        assert left == {name: one.remaining for name, one in self.model.grants.items()}


def lines_of(call: tuple[str, int, int]) -> list[Line]:
    """Return what a call costs."""
    model, tokens, output_tokens = call
    prices = PRICES[model]
    return [Line("input", tokens * prices[0]), Line("output", output_tokens * prices[1])]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rate=st.sampled_from(RATES), steps=steps)
def test_account_is_what_its_model_says(stepped: Stepped, rate: int, steps: list[tuple[str, object]]) -> None:
    """After every step the account, each grant and each decision are those of the model; the entries add up to it."""
    stepped.engine.set_catalogue(catalogue(CARD))
    try:
        side = Side(stepped, rate)
        actions: dict[str, Any] = {
            "grant": lambda fields: side.grant(dict(fields)),
            "record": side.record,
            "check": side.check,
            "hold": lambda call: side.check(call, holds=True),
            "settle": side.settle,
            "release": lambda _: side.release(),
            "void": side.void,
            "advance": side.advance,
            "policy": side.policy,
        }
        for name, argument in steps:
            actions[name](argument)
            side.compare()
        side.compare_ledger()
    finally:
        stepped.engine.set_catalogue(catalogue())
