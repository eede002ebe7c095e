# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing subscription`: JSON, in the shape that scripts for hosted billing services expect."""

import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from taximeter.billing import (
    Cadence,
    CadenceUnit,
    CreditCounts,
    Invoice,
    InvoiceKind,
    InvoiceState,
    NewPhase,
    PlanTerms,
    Subscription,
    TopUpTerms,
)
from taximeter.cli.app import App, pass_app
from taximeter.cli.json_errors import JsonErrorGroup
from taximeter.cli.json_text import exact_micros, json_text
from taximeter.cli.output import JSON, output_option, time_text
from taximeter.cli.parameters import InstantType, TimeZoneType
from taximeter.money import decimal_string
from taximeter.top_ups import AutomaticTopUp

_PHASE = re.compile(r"([a-z0-9._-]{1,64})(?::([1-9][0-9]{0,2})([dmy]))?(:trial)?")
_UNITS = {"d": CadenceUnit.DAY, "m": CadenceUnit.MONTH, "y": CadenceUnit.YEAR}
_MICRO = 10**6

_tenant_option = click.option(
    "--tenant",
    default="",
    help="Root tenant. Default: the one that the key is bound to, or the only one that has a subscription.",
)


class PhaseType(click.ParamType[NewPhase]):
    """A plan, how long it holds, and whether it is free for that time."""

    name = "phase"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NewPhase:
        """Reads PLAN, PLAN:14d:trial, PLAN:3m."""
        if isinstance(value, NewPhase):
            return value
        found = _PHASE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no phase such as pro, starter:14d:trial or pro:3m", param, ctx)
        plan, count, unit, trial = found.groups()
        duration = Cadence(_UNITS[unit], int(count)) if count else None
        return NewPhase(plan, duration, trial is not None)


@click.group(cls=JsonErrorGroup)
def subscription() -> None:
    """What tenants have subscribed to, as JSON, for scripts."""


@subscription.command()
@_tenant_option
@output_option(JSON)
@pass_app
def get(app: App, tenant: str, output: str) -> None:  # noqa: ARG001 (JSON is the only one; the option is everywhere)
    """Prints the current plan, credits used and available, and the dates of the period.

    Remaining credits are subscriptionAvailableCreditsCount - subscriptionCreditsUsedCount.
    """
    _show(app, tenant)


@subscription.command("get-invoices")
@_tenant_option
@output_option(JSON)
@pass_app
def get_invoices(app: App, tenant: str, output: str) -> None:  # noqa: ARG001 (as above)
    """Prints the invoices that were finalised, newest first. Amounts are in cents, or what the currency has."""
    invoices = app.meter.list_invoices(tenant, drafts=False)
    shown = [_invoice(one) for one in invoices if one.kind is InvoiceKind.INVOICE]
    click.echo(json_text({"invoices": shown}))


@subscription.command("get-credit-card")
@_tenant_option
@output_option(JSON)
@pass_app
def get_credit_card(app: App, tenant: str, output: str) -> None:  # noqa: ARG001 (as above)
    """Prints the card on file, null without one."""
    card = app.meter.get_payment_card(tenant)
    fields = card and {
        "brand": card.brand,
        "last4": card.last4,
        "expMonth": card.expire_month,
        "expYear": card.expire_year,
    }
    click.echo(json_text({"creditCard": fields}))


@subscription.command("create-portal-session")
@_tenant_option
@click.option("--return-url", default="", help="Where the pages lead back to.")
@output_option(JSON)
@pass_app
def create_portal_session(app: App, tenant: str, return_url: str, output: str) -> None:  # noqa: ARG001 (as above)
    """Prints the URL of the payment provider's self-service pages. Whoever has it is let in, for some minutes."""
    click.echo(json_text({"url": app.meter.create_portal_session(tenant, return_url=return_url)}))


@subscription.command()
@click.argument("tenant")
@click.argument("phases", type=PhaseType(), nargs=-1, required=True, metavar="PHASE...")
@click.option(
    "--time-zone", type=TimeZoneType(), default="UTC", show_default=True, help="Zone of its periods."
)
@click.option("--start", type=InstantType(), help="When it begins. Default: now.")
@click.option("--anchor-day", type=click.IntRange(1, 31), help="Day of the month on which periods begin.")
@output_option(JSON)
@pass_app
def put(
    app: App,
    tenant: str,
    phases: tuple[NewPhase, ...],
    *,
    time_zone: ZoneInfo,
    start: datetime | None,
    anchor_day: int | None,
    output: str,  # noqa: ARG001 (as above)
) -> None:
    """Begins a subscription of the root tenant TENANT.

    A PHASE is a plan, how long it holds, and whether its price is not charged: starter:14d:trial pro:3m scale is
    14 days of starter for nothing, three months of pro, then scale. The last may go on without end.
    """
    app.meter.put_subscription(
        tenant, phases, time_zone=time_zone.key, start_time=start, anchor_day=anchor_day
    )
    _show(app, tenant)


@subscription.command("change-plan")
@click.argument("tenant")
@click.argument("plan")
@click.option("--at-period-end", is_flag=True, help="At the end of the period rather than now.")
@click.option("--expected-revision", type=click.IntRange(1), help="Refuse if it has been changed since.")
@output_option(JSON)
@pass_app
def change_plan(
    app: App,
    tenant: str,
    plan: str,
    *,
    at_period_end: bool,
    expected_revision: int | None,
    output: str,  # noqa: ARG001 (as above)
) -> None:
    """Takes PLAN instead, or the terms that it has now. Each plan costs its share of the period, to the second."""
    app.meter.change_plan(tenant, plan, at_period_end=at_period_end, expected_revision=expected_revision)
    _show(app, tenant)


@subscription.command()
@click.argument("tenant")
@click.option("--at-once", is_flag=True, help="Now rather than at the end of the period.")
@output_option(JSON)
@pass_app
def cancel(app: App, tenant: str, *, at_once: bool, output: str) -> None:  # noqa: ARG001 (as above)
    """Ends the subscription of TENANT."""
    app.meter.cancel_subscription(tenant, at_once=at_once)
    _show(app, tenant)


def _show(app: App, tenant: str) -> None:
    click.echo(json_text(_document(app.meter.get_subscription(tenant), app.now())))


def _document(found: Subscription, now: datetime) -> dict[str, Any]:
    phase = found.phase_at(now)
    terms = phase.terms or next((one.terms for one in reversed(found.phases) if one.terms), None)
    to_come = [one for one in found.phases if one.start_time > now and one.plan]
    return {
        "tenant": found.tenant,
        "plan": phase.plan or None,
        "status": found.state.value.lower(),
        **_terms(terms),
        **_credits(found.credits or CreditCounts(0, 0, 0, 0)),
        "automaticTopUp": _automatic(found.automatic_top_up),
        "periodStartDate": time_text(found.period_start_time),
        "periodEndDate": time_text(found.period_end_time),
        "resetDate": time_text(found.period_end_time),
        "timeZone": found.time_zone,
        "cancelDate": time_text(found.end_time),
        "nextPlan": to_come[0].plan if to_come else None,
        "nextPlanDate": time_text(to_come[0].start_time) if to_come else None,
        "invoicedUntilDate": time_text(found.invoiced_until_time),
        "revision": found.revision,
    }


def _terms(terms: PlanTerms | None) -> dict[str, Any]:
    credit_terms = terms.credits if terms else None
    return {
        "price": decimal_string(terms.price.picos, 2) if terms else None,
        "currency": terms.currency_code if terms else None,
        "cadence": str(terms.cadence) if terms else None,
        "includedCreditsCount": exact_micros(credit_terms.included_microcredits if credit_terms else 0),
        "conversionRate": decimal_string(credit_terms.picos_per_microcredit * _MICRO, 2)
        if credit_terms
        else None,
        "overage": credit_terms.overage_policy.value.lower() if credit_terms else None,
        "topUp": _top_up(credit_terms.top_up) if credit_terms and credit_terms.top_up else None,
    }


def _top_up(top_up: TopUpTerms) -> dict[str, Any]:
    return {
        "creditsCount": exact_micros(top_up.amount_microcredits),
        "thresholdCreditsCount": exact_micros(top_up.threshold_microcredits),
        "price": decimal_string(top_up.price.picos, 2),
    }


def _automatic(found: AutomaticTopUp | None) -> dict[str, Any] | None:
    """Returns what happens when few credits are left."""
    if found is None:
        return None
    last = found.last
    return {
        "state": found.state.value.lower(),
        "problem": found.problem or None,
        "nextDate": time_text(found.next_time),
        "lastRequestId": last.request_id if last else None,
        "lastState": last.state.value.lower() if last else None,
        "lastDate": time_text(last.create_time) if last else None,
    }


def _credits(counts: CreditCounts) -> dict[str, Any]:
    return {
        "subscriptionAvailableCreditsCount": exact_micros(counts.subscription_available_microcredits),
        "subscriptionCreditsUsedCount": exact_micros(counts.subscription_used_microcredits),
        "additionalAvailableCreditsCount": exact_micros(counts.additional_available_microcredits),
        "additionalCreditsUsedCount": exact_micros(counts.additional_used_microcredits),
    }


def _invoice(invoice: Invoice) -> dict[str, Any]:
    is_paid = invoice.state is InvoiceState.PAID
    return {
        "id": invoice.invoice_id,
        "number": invoice.number,
        "status": invoice.state.value.lower(),
        "paid": is_paid,
        "total": invoice.total_minor,
        "amountDue": invoice.due_minor,
        "amountPaid": max(0, invoice.total_minor - invoice.credited_minor) if is_paid else 0,
        "currency": invoice.currency_code,
        "periodStartDate": time_text(invoice.period_start_time),
        "periodEndDate": time_text(invoice.period_end_time),
        "createdAt": time_text(invoice.finalize_time),
        "dueDate": time_text(invoice.due_time),
        "paidAt": time_text(invoice.paid_time),
        "url": invoice.url or None,
    }
