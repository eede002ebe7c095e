# SPDX-License-Identifier: Apache-2.0
"""The client against the real server."""

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import grpc
import pytest

import taximeter
from harness.server_process import ServerProcess
from taximeter import (
    ConflictError,
    Durability,
    ExportFormat,
    ForbiddenError,
    InvalidArgumentError,
    LimitKind,
    Limits,
    Meter,
    Money,
    NotFoundError,
    OutOfRangeError,
    PricingState,
    Role,
    UnauthenticatedError,
    Usage,
    UsageQuality,
    UsageRecord,
    new_record_id,
    picos_of,
)
from taximeter._channel import service_config
from taximeter.clock import system_clock_ms
from taximeter.v1 import (
    access_service_pb2,
    billing_service_pb2,
    event_service_pb2,
    metering_service_pb2,
    operations_service_pb2,
    plan_service_pb2,
    rate_card_service_pb2,
    tenant_service_pb2,
)

USAGE = Usage(uncached_input_tokens=1_000_000, visible_output_tokens=100_000)
COST_PICOS = 7_500_000_000_000
METHOD_BY_RPC = {
    "Record": "record",
    "RecordLevel": "record_level",
    "RecordBatch": "record_batch",
    "VoidRecord": "void_record",
    "AmendRecord": "amend_record",
    "CheckQuota": "check_quota",
    "ExtendHold": "extend_hold",
    "ReleaseHold": "release_hold",
    "Report": "report",
    "ExportReport": "export_report",
    "Estimate": "estimate",
    "PutTenant": "put_tenant",
    "PutTenants": "put_tenants",
    "RemoveTenant": "remove_tenant",
    "PutPlan": "put_plan",
    "GetPlan": "get_plan",
    "ListPlans": "list_plans",
    "RemovePlan": "remove_plan",
    "ListQuotaEvents": "list_quota_events",
    "PutWebhookEndpoint": "put_webhook",
    "ListWebhookEndpoints": "list_webhooks",
    "RotateWebhookSecret": "rotate_webhook_secret",
    "RemoveWebhookEndpoint": "remove_webhook",
    "ListWebhookDeliveries": "list_webhook_deliveries",
    "PutSubscription": "put_subscription",
    "GetSubscription": "get_subscription",
    "ChangePlan": "change_plan",
    "CancelSubscription": "cancel_subscription",
    "ListInvoices": "list_invoices",
    "GetInvoice": "get_invoice",
    "FinalizeInvoice": "finalize_invoice",
    "VoidInvoice": "void_invoice",
    "CreateCreditNote": "create_credit_note",
    "PutCreditAccount": "put_credit_account",
    "GetCreditAccount": "get_credit_account",
    "GrantCredits": "grant_credits",
    "VoidCreditGrant": "void_credit_grant",
    "ListCreditGrants": "list_credit_grants",
    "ListCreditEntries": "list_credit_entries",
    "TopUpCredits": "top_up_credits",
    "ListTopUps": "list_top_ups",
    "GetTenant": "get_tenant",
    "ListTenants": "list_tenants",
    "GetQuotaStatus": "quota_status",
    "SimulateQuota": "simulate_quota",
    "PublishRateCard": "publish_rate_card",
    "ValidateRateCard": "validate_rate_card",
    "GetRateCard": "get_rate_card",
    "ListRateCards": "list_rate_cards",
    "WithdrawRateCard": "withdraw_rate_card",
    "VerifyRateCards": "verify_rate_cards",
    "DiffRateCards": "diff_rate_cards",
    "CompareRateCards": "compare_rate_cards",
    "PostAdjustments": "post_adjustments",
    "ExplainRecord": "explain_record",
    "PutTenantPrices": "put_tenant_prices",
    "RemoveTenantPrices": "remove_tenant_prices",
    "GetTenantPrices": "get_tenant_prices",
    "ListTenantPrices": "list_tenant_prices",
    "CreateKey": "create_key",
    "ListKeys": "list_keys",
    "RevokeKey": "revoke_key",
    "RotateKey": "rotate_key",
    "ListAuditEvents": "list_audit_events",
    "VerifyAuditLog": "verify_audit_log",
    "WhoAmI": "whoami",
    "GetServerStatus": "server_status",
    "RenderInvoice": "render_invoice",
    "PutPaymentAccount": "put_payment_account",
    "GetPaymentAccount": "get_payment_account",
    "GetPaymentCard": "get_payment_card",
    "CreatePortalSession": "create_portal_session",
    "ListPayments": "list_payments",
    "RetryPayment": "retry_payment",
    "ListRecordConflicts": "list_record_conflicts",
}

OF_OTHERS = {"ReceivePaymentEvent"}
"""What the payment provider calls, and no client."""


@pytest.fixture
def now() -> datetime:
    """The present."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=system_clock_ms())


def test_a_record_is_priced_once_however_often_it_is_sent(meter: Meter, tenant: str) -> None:
    """The same record gets its first answer again, marked as a duplicate."""
    record_id = new_record_id()
    first = meter.record(tenant, USAGE, model="gpt-5", record_id=record_id)
    again = meter.record(tenant, USAGE, model="gpt-5", record_id=record_id)

    assert (first.duplicate, again.duplicate) == (False, True)
    assert Money("USD", COST_PICOS) == first.cost == again.cost
    assert Decimal("7.5") == first.cost.amount
    assert (first.pricing_state, first.durability) == (PricingState.PRICED, Durability.COMMITTED)
    assert {line.usage_class: line.cost_picos for line in first.lines} == {
        "input": 5_000_000_000_000,
        "output": 2_500_000_000_000,
    }
    assert first.lines == again.lines


def test_another_payload_with_the_same_id_is_a_conflict(meter: Meter, tenant: str) -> None:
    """An id belongs to one record; the error says that nothing was recorded."""
    recorded = meter.record(tenant, USAGE, model="gpt-5")
    with pytest.raises(ConflictError) as caught:
        meter.record(tenant, Usage(tool_calls=1), record_id=recorded.record_id)

    assert (caught.value.reason, caught.value.not_recorded) == ("RECORD_ID_CONFLICT", True)


def test_bad_records_name_their_fields(meter: Meter, tenant: str, now: datetime) -> None:
    """What can never be recorded says which field is wrong."""
    with pytest.raises(InvalidArgumentError) as caught:
        meter.record(tenant, Usage(reasoning_tokens=-1), model="gpt-5")
    assert [v.field for v in caught.value.field_violations] == ["record.usage.reasoning_tokens"]

    with pytest.raises(OutOfRangeError) as too_old:
        meter.record(tenant, USAGE, model="gpt-5", occur_time=now - timedelta(days=35))
    assert too_old.value.reason == "EVENT_TOO_OLD"


def test_a_time_without_a_zone_is_refused_before_it_is_sent(meter: Meter, tenant: str, now: datetime) -> None:
    """A local time could mean any instant, so it never becomes one."""
    with pytest.raises(ValueError, match="has no time zone"):
        meter.record(tenant, USAGE, model="gpt-5", occur_time=now.replace(tzinfo=None))


def test_a_batch_answers_each_record_in_order(meter: Meter, tenant: str) -> None:
    """A bad record fails alone, in its place."""
    usages = [USAGE, Usage(reasoning_tokens=-1), USAGE]
    records = [
        UsageRecord(record_id=new_record_id(), tenant=tenant, usage=usage, model="gpt-5") for usage in usages
    ]
    one, two, three = meter.record_batch(records)

    assert one.recorded is not None
    assert three.recorded is not None
    assert isinstance(two.error, InvalidArgumentError)
    assert [record.record_id for record in records] == [one.record_id, two.record_id, three.record_id]


def test_a_denial_is_an_answer(meter: Meter, tenant: str) -> None:
    """Over the limit the answer is no, with the limit that says so and how long to wait."""
    meter.put_tenant(tenant, Limits(requests_per_minute=1, cost_per_day_picos=picos_of(Decimal("0.50"))))
    first, second = meter.check_quota(tenant), meter.check_quota(tenant)

    assert (first.allowed, second.allowed) == (True, False)
    assert [limit.kind for limit in second.limits if limit.exceeded] == [LimitKind.REQUESTS_PER_MINUTE]
    assert second.retry_after is not None
    assert timedelta(0) < second.retry_after <= timedelta(seconds=61)


def test_an_estimate_is_checked_without_consuming(meter: Meter, tenant: str) -> None:
    """A dry run prices the estimate against the cost limits and leaves everything as it was."""
    meter.put_tenant(tenant, Limits(cost_per_day_picos=COST_PICOS - 1))
    decision = meter.check_quota(tenant, model="gpt-5", estimate=USAGE, dry_run=True)

    assert not decision.allowed
    assert decision.estimated_cost == Money("USD", COST_PICOS)
    assert [limit.used for limit in meter.quota_status(tenant)] == [0]


def test_a_report_holds_what_was_recorded(meter: Meter, tenant: str, now: datetime) -> None:
    """Report and Record agree exactly, by any group, and a missing value is None."""
    for model, attributes in (("gpt-5", {"workflow_uuid": "w1"}), ("gpt-5", {}), ("claude-sonnet-4-6", {})):
        meter.record(f"{tenant}/a", USAGE, model=model, attributes=attributes, quality=UsageQuality.ESTIMATED)
    window = (now - timedelta(days=1), now + timedelta(days=1))
    report = meter.report(*window, tenant=tenant, group_by=["attributes.workflow_uuid", "model"])

    assert [(row.group, row.measures.calls, row.measures.cost.picos) for row in report.rows] == [
        ({"attributes.workflow_uuid": None, "model": "claude-sonnet-4-6"}, 1, 4_500_000_000_000),
        ({"attributes.workflow_uuid": None, "model": "gpt-5"}, 1, COST_PICOS),
        ({"attributes.workflow_uuid": "w1", "model": "gpt-5"}, 1, COST_PICOS),
    ]
    assert report.total.calls == 3
    assert report.total.quantities == {"input": 3_000_000, "output": 300_000}
    filtered = meter.report(*window, tenant=tenant, filters={"model": ["gpt-5"]})
    assert filtered.total.cost.picos == 2 * COST_PICOS


def test_a_report_of_many_pages_is_whole(
    meter: Meter, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are fetched, in order, and the total is that of all."""
    monkeypatch.setattr("taximeter._reporting._REPORT_PAGE_SIZE", 3)
    records = [
        UsageRecord(record_id=new_record_id(), tenant=f"{tenant}/{number:02}", usage=USAGE, model="gpt-5")
        for number in range(10)
    ]
    meter.record_batch(records)
    report = meter.report(
        now - timedelta(days=1), now + timedelta(days=1), tenant=tenant, group_by=["tenant"]
    )

    assert [record.tenant for record in records] == [row.group["tenant"] for row in report.rows]
    assert 10 * COST_PICOS == report.total.cost.picos == sum(row.measures.cost.picos for row in report.rows)


def test_exported_lines_are_the_rows(meter: Meter, tenant: str, now: datetime) -> None:
    """A report as JSON lines has its rows, amounts as decimal strings."""
    meter.record(tenant, USAGE, model="gpt-5")
    window = (now - timedelta(days=1), now + timedelta(days=1))
    pieces = meter.export_report(
        *window, file_format=ExportFormat.JSON_LINES, tenant=tenant, group_by=["model"]
    )
    rows = [json.loads(line) for line in b"".join(pieces).splitlines()]

    assert [(row["group"], row["cost"]) for row in rows] == [({"model": "gpt-5"}, "7.500000000000")]


def test_an_export_that_cannot_be_made_raises(meter: Meter, now: datetime) -> None:
    """A stream that fails raises the same family as any call."""
    with pytest.raises(InvalidArgumentError) as caught:
        list(meter.export_report(now, now))

    assert caught.value.reason == "RANGE_INVALID"


def test_unpriced_is_a_state_not_zero(meter: Meter, tenant: str) -> None:
    """A model without a price is recorded and says so; its estimate is refused."""
    recorded = meter.record(tenant, USAGE, model="unheard-of")

    assert recorded.pricing_state is PricingState.UNPRICED
    assert all(line.unpriced and not line.unit_price for line in recorded.lines)
    with pytest.raises(NotFoundError) as caught:
        meter.estimate(USAGE, model="unheard-of")
    assert caught.value.reason == "MODEL_UNKNOWN"


def test_an_estimate_multiplies_one_call(meter: Meter) -> None:
    """The price of many calls is that of one, times their number."""
    estimate = meter.estimate(USAGE, model="gpt-5", call_count=1_000)

    assert (estimate.cost_per_call.picos, estimate.cost.picos) == (COST_PICOS, 1_000 * COST_PICOS)


def test_keys_reach_what_they_are_bound_to(server: ServerProcess, meter: Meter, tenant: str) -> None:
    """A key of one tenant meters everything below it and nothing beside it."""
    created = meter.create_key(Role.METER, tenants=[tenant], note="gateway")
    assert created.secret not in repr(created)
    with Meter(f"http://{server.address}", key=created.secret) as bound:
        assert (Role.METER, (tenant,)) == (bound.whoami().role, bound.whoami().tenants)
        bound.record(f"{tenant}/a", USAGE, model="gpt-5")
        with pytest.raises(ForbiddenError, match="TENANT_FORBIDDEN"):
            bound.record("other", USAGE, model="gpt-5")
        with pytest.raises(ForbiddenError, match="ROLE_MISSING"):
            bound.list_keys()


def test_no_key_is_not_a_key(server: ServerProcess) -> None:
    """A key that nobody made is refused on the first call."""
    with (
        Meter(f"http://{server.address}", key="tx_nobody_made_this") as stranger,
        pytest.raises(UnauthenticatedError),
    ):
        stranger.whoami()


def test_a_record_survives_a_restart_of_the_server(
    fresh_server: Callable[..., ServerProcess], tenant: str, now: datetime
) -> None:
    """What was recorded is there after a restart, and sending it again counts nothing."""
    running = fresh_server()
    key, record_id = running.admin_key, new_record_id()
    with Meter(f"http://{running.address}", key=key) as before:
        before.record(tenant, USAGE, model="gpt-5", record_id=record_id)
    running.restart()
    with Meter(f"http://{running.address}", key=key) as after:
        assert after.record(tenant, USAGE, model="gpt-5", record_id=record_id).duplicate
        total = after.report(now - timedelta(days=1), now + timedelta(days=1)).total

    assert (total.calls, total.cost.picos) == (1, COST_PICOS)


def test_every_rpc_has_a_method() -> None:
    """The client serves all of the API but what the server does not."""
    files = (
        access_service_pb2,
        billing_service_pb2,
        event_service_pb2,
        metering_service_pb2,
        operations_service_pb2,
        plan_service_pb2,
        rate_card_service_pb2,
        tenant_service_pb2,
    )
    rpcs = {m.name for file in files for s in file.DESCRIPTOR.services_by_name.values() for m in s.methods}

    assert rpcs - OF_OTHERS == set(METHOD_BY_RPC)
    assert all(callable(getattr(Meter, method)) for method in METHOD_BY_RPC.values())


def test_grpc_retries_only_what_is_safe() -> None:
    """Everything but what is metered, new keys and new cards is in gRPC's own retries."""
    config = json.loads(service_config())["methodConfig"][0]

    assert {name["method"] for name in config["name"]} == (set(METHOD_BY_RPC) | OF_OTHERS) - {
        "CheckQuota",
        "ExtendHold",
        "ReleaseHold",
        "RecordLevel",
        "Record",
        "RecordBatch",
        "CreateKey",
        "RotateKey",
        "PublishRateCard",
        "PutTenantPrices",
        "PutWebhookEndpoint",
        "RotateWebhookSecret",
        "RemoveTenantPrices",
    }
    assert config["retryPolicy"]["retryableStatusCodes"] == [grpc.StatusCode.UNAVAILABLE.name]


def test_public_names_are_importable() -> None:
    """What the package promises, it has."""
    assert len(taximeter.__all__) == len(set(taximeter.__all__))
    assert all(hasattr(taximeter, name) for name in taximeter.__all__)


def test_recording_goes_on_through_a_restart(
    fresh_server: Callable[..., ServerProcess], tenant: str, now: datetime
) -> None:
    """Records sent while the server restarts arrive when it is back: each once, none lost, no error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    running = fresh_server(listen=listen)
    with Meter(f"http://{listen}", key=running.admin_key) as meter, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(meter.record, tenant, USAGE, model="gpt-5", timeout_s=30) for _ in range(400)]
        answers[20].result()
        running.kill()
        unanswered = sum(not answer.done() for answer in answers)
        running.start()
        recorded = [answer.result() for answer in answers]
        total = meter.report(now - timedelta(days=1), now + timedelta(days=1), tenant=tenant).total

    assert unanswered > 0
    assert (total.calls, total.cost.picos) == (400, 400 * COST_PICOS)
    assert all(answer.cost.picos == COST_PICOS for answer in recorded)
