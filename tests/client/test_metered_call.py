# SPDX-License-Identifier: Apache-2.0
"""`with meter.call(...)`: asks, holds, records, and frees what it held where nothing is to be recorded."""

import asyncio
import contextlib

import pytest

from taximeter import (
    AsyncMeter,
    CallPlan,
    DeadlineError,
    HoldState,
    InvalidArgumentError,
    LimitKind,
    Limits,
    Meter,
    QuotaDeniedError,
    UnavailableError,
    Usage,
    UsageMissingError,
    UsageRecord,
    new_record_id,
)

ESTIMATE = Usage(visible_output_tokens=60)
USAGE = Usage(visible_output_tokens=9)
CHAT = {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}


@pytest.fixture
def tenant(meter: Meter) -> str:
    """A tenant of 100 tokens a day."""
    name = f"call-{new_record_id()}"
    meter.put_tenant(name, limits=Limits(tokens_per_day=100))
    return name


def tokens(meter: Meter, tenant: str) -> tuple[int, int]:
    """What is used and held of the tenant's tokens."""
    (found,) = [limit for limit in meter.quota_status(tenant) if limit.kind is LimitKind.TOKENS_PER_DAY]
    return found.used, found.held


def test_a_call_holds_its_estimate_and_records_what_it_used(meter: Meter, tenant: str) -> None:
    """Within the body the estimate is held; at the end the usage is recorded and the hold is settled."""
    with meter.call(tenant, "gpt-5", estimate=ESTIMATE) as call:
        assert tokens(meter, tenant) == (0, 60)
        call.used(USAGE)
    assert call.recorded is not None
    assert call.recorded.hold is not None
    assert (call.recorded.hold.state, call.recorded.record_id) == (HoldState.SETTLED, call.record_id)
    assert tokens(meter, tenant) == (9, 0)


def test_a_providers_usage_is_recorded_as_it_came(meter: Meter, tenant: str) -> None:
    """The answer's usage object, provider and model are all that the body has to say."""
    with meter.call(tenant, "gpt-5") as call:
        call.used(provider_usage=CHAT, provider="openai", api="chat.completions", model="gpt-5-2025-08-07")
    (found,) = meter.explain_record(call.record_id, tenant=tenant)
    assert (found.model, found.provider, found.provider_usage is None) == (
        "gpt-5-2025-08-07",
        "openai",
        False,
    )


def test_an_error_of_the_body_frees_the_hold(meter: Meter, tenant: str) -> None:
    """A call that fails before it used anything holds nothing any more, and its error is what the caller sees."""
    with pytest.raises(ZeroDivisionError), meter.call(tenant, "gpt-5", estimate=ESTIMATE):
        _ = 1 // 0
    assert tokens(meter, tenant) == (0, 0)


def test_what_was_used_before_an_error_is_recorded(meter: Meter, tenant: str) -> None:
    """A call that fails after it used something is charged for it."""

    def run() -> None:
        with meter.call(tenant, "gpt-5", estimate=ESTIMATE) as call:
            call.used(USAGE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert tokens(meter, tenant) == (9, 0)


def test_a_body_that_says_nothing_is_an_error(meter: Meter, tenant: str) -> None:
    """Forgetting to say what was used is never a free call: it is an error, and the hold is freed."""
    with pytest.raises(UsageMissingError), meter.call(tenant, "gpt-5", estimate=ESTIMATE):
        pass
    assert tokens(meter, tenant) == (0, 0)


def test_a_denied_call_does_not_happen(meter: Meter, tenant: str) -> None:
    """Without room for the estimate the body is not entered, and the decision says why."""
    with (
        pytest.raises(QuotaDeniedError, match="TOKENS_PER_DAY") as caught,
        meter.call(tenant, "gpt-5", estimate=Usage(visible_output_tokens=101)),
    ):
        pytest.fail("the body was entered")
    assert not caught.value.decision.allowed


def test_a_record_that_fails_does_not_hide_the_bodys_error(meter: Meter, tenant: str) -> None:
    """The error of the body stays the one that is raised; that of the record is a note on it."""

    def run(error: Exception | None) -> None:
        with meter.call(tenant, "gpt-5") as call:
            call.used(Usage(visible_output_tokens=-1))
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError) as caught:
        run(ZeroDivisionError())
    assert "could not be recorded" in caught.value.__notes__[0]
    with pytest.raises(InvalidArgumentError):
        run(None)


def test_undecided_calls_go_on_where_that_is_wanted() -> None:
    """A server that is away stops calls, unless the caller prefers to go on without a decision."""
    with Meter("http://127.0.0.1:9", key="none") as meter:
        with pytest.raises((UnavailableError, DeadlineError)), meter.call("acme", "gpt-5"):
            pytest.fail("the body was entered")
        plan = CallPlan("acme", "gpt-5", allows_undecided=True)
        with contextlib.suppress(UsageMissingError), meter.open(plan) as call:
            entered = True
        assert (entered, call.decision) == (True, None)


def test_the_event_loops_client_does_the_same(meter: Meter, tenant: str) -> None:
    """The asyncio client checks, holds, records, releases and sends batches as the other does."""

    async def run() -> None:
        async with AsyncMeter(connection=meter.connection) as client:
            assert (await client.check_quota(tenant, model="gpt-5")).allowed
            async with client.call(tenant, "gpt-5", estimate=ESTIMATE) as call:
                call.used(USAGE)
            assert call.recorded is not None
            with pytest.raises(UsageMissingError):
                async with client.call(tenant, "gpt-5", estimate=ESTIMATE):
                    pass
            with pytest.raises(QuotaDeniedError):
                async with client.call(tenant, "gpt-5", estimate=Usage(visible_output_tokens=101)):
                    pass
            with pytest.raises(InvalidArgumentError) as caught:
                await client.record(tenant, Usage(visible_output_tokens=-1), model="gpt-5")
            assert caught.value.field_violations[0].field == "record.usage.visible_output_tokens"
            decided = await client.check_quota(
                tenant, model="gpt-5", estimate=ESTIMATE, hold_ttl=call.plan.hold_ttl
            )
            assert await client.release_hold(tenant, decided.hold_id) is HoldState.RELEASED
            records = [
                UsageRecord(record_id=new_record_id(), tenant=tenant, model="gpt-5", usage=usage)
                for usage in (USAGE, Usage(visible_output_tokens=-1))
            ]
            good, bad = await client.record_batch(records)
            assert (good.recorded is not None, bad.error is not None) == (True, True)
        async with AsyncMeter("http://127.0.0.1:9", key="none") as away:
            with pytest.raises((UnavailableError, DeadlineError)):
                await away.check_quota(tenant)

    asyncio.run(run())
    assert tokens(meter, tenant) == (18, 0)
