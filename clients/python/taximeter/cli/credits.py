# SPDX-License-Identifier: Apache-2.0
"""`taximeter billing credits`: accounts and grants of credits."""

from datetime import datetime
from typing import Any

import click

from taximeter.cli.app import App, TaximeterGroup, pass_app
from taximeter.cli.output import (
    CSV,
    JSON,
    TABLE,
    Column,
    output_option,
    time_text,
    write,
    write_fields,
    write_json,
)
from taximeter.cli.parameters import AmountType, InstantType
from taximeter.credits import (
    MICROCREDITS_PER_CREDIT,
    CreditAccount,
    CreditEntry,
    CreditGrant,
    CreditGrantKind,
    CreditPolicy,
    credits_text,
    parse_credits,
)
from taximeter.money import PICOS_PER_UNIT, decimal_string
from taximeter.top_ups import TopUp

_POLICIES = {one.value.lower(): one for one in CreditPolicy if one is not CreditPolicy.UNRECOGNIZED}
_KINDS = {one.value.lower(): one for one in CreditGrantKind if one is not CreditGrantKind.UNRECOGNIZED}
_ENTRY_COLUMNS = (
    Column("receive_time", "time"),
    Column("kind", "entry"),
    Column("tenant", "tenant"),
    Column("record_id", "record"),
    Column("usage_class", "class"),
    Column("grant_id", "grant"),
    Column("credits", "credits", numeric=True),
    Column("note", "note"),
)
_GRANT_COLUMNS = (
    Column("grant_id", "grant"),
    Column("kind", "kind"),
    Column("priority", "priority", numeric=True),
    Column("amount", "credits", numeric=True),
    Column("remaining", "left", numeric=True),
    Column("held", "held", numeric=True),
    Column("state", "state"),
    Column("effective_time", "from"),
    Column("expire_time", "expires"),
    Column("scope", "for"),
    Column("note", "note"),
)


_TOP_UP_COLUMNS = (
    Column("request_id", "top-up"),
    Column("amount", "credits", numeric=True),
    Column("price", "price", numeric=True),
    Column("currency", "currency"),
    Column("state", "state"),
    Column("problem", "problem", optional=True),
    Column("create_time", "begun"),
    Column("next_attempt_time", "next attempt", optional=True),
)


class CreditsType(click.ParamType[int]):
    """Credits with up to six digits after the point, read exactly into microcredits."""

    name = "credits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads the credits."""
        if isinstance(value, int):
            return value
        try:
            return parse_credits(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group("credits", cls=TaximeterGroup)
def credits_group() -> None:
    """Give tenants credits, and show what is left of them."""


@credits_group.command()
@click.argument("tenant")
@click.option(
    "--credit-price",
    "credit_picos",
    type=AmountType(),
    help="Open the account: what one credit stands for, in the currency of the rate card, such as 0.01. It stays.",
)
@click.option("--policy", type=click.Choice(tuple(_POLICIES)), help="What happens when credits run out.")
@click.option("--overdraft", "overdraft", type=CreditsType(), default=0, help="With --policy overdraft.")
@output_option(TABLE, JSON)
@pass_app
def account(
    app: App, tenant: str, credit_picos: int | None, policy: str | None, overdraft: int, output: str
) -> None:
    """Shows the credit account of TENANT, a root tenant; with options opens or changes it.

    Policies: block denies the next call when nothing is left, overdraft lets it owe so many credits, allow
    denies nothing. Usage that happened is debited under each of them.
    """
    if credit_picos is None and policy is None:
        _write_account(app.meter.get_credit_account(tenant), output)
        return
    if credit_picos is None:
        rate = app.meter.get_credit_account(tenant).picos_per_microcredit
    else:
        rate, rest = divmod(credit_picos, MICROCREDITS_PER_CREDIT)
        if rest:
            raise click.BadParameter("at most 6 digits after the point", param_hint="--credit-price")
    wanted = _POLICIES[policy or "block"]
    found = app.meter.put_credit_account(tenant, rate, policy=wanted, overdraft_microcredits=overdraft)
    _write_account(found, output)


@credits_group.command()
@click.argument("tenant")
@click.argument("amount_microcredits", metavar="AMOUNT", type=CreditsType())
@click.option(
    "--id", "grant_id", required=True, help="Name of the grant; the same one again changes nothing."
)
@click.option("--kind", type=click.Choice(tuple(_KINDS)), default="paid", show_default=True, help="Its kind.")
@click.option(
    "--priority", type=click.IntRange(0, 1_000), default=100, show_default=True, help="The lowest goes first."
)
@click.option("--from", "effective_time", type=InstantType(), help="From when it can be used. Default: now.")
@click.option("--expires", "expire_time", type=InstantType(), help="When it expires. Default: never.")
@click.option("--model", "models", multiple=True, help="Only for this model; repeatable.")
@click.option("--usage-class", "usage_classes", multiple=True, help="Only for this usage class; repeatable.")
@click.option("--paid", "cost_basis_picos", type=AmountType(), default=0, help="What was paid for it in all.")
@click.option("--note", default="", help="For people.")
@output_option(TABLE, JSON)
@pass_app
def grant(
    app: App,
    /,
    tenant: str,
    amount_microcredits: int,
    kind: str,
    output: str,
    **settings: Any,
) -> None:
    """Gives TENANT, a root tenant, AMOUNT credits."""
    wanted = CreditGrant(amount_microcredits=amount_microcredits, kind=_KINDS[kind], **settings)
    _write_grant(app.meter.grant_credits(tenant, wanted), output)


@credits_group.command()
@click.argument("tenant")
@click.argument("grant_id")
@click.option("--reason", required=True, help="Why.")
@output_option(TABLE, JSON)
@pass_app
def void(app: App, tenant: str, grant_id: str, reason: str, output: str) -> None:
    """Takes back what is left of the grant GRANT_ID of TENANT; what was used stays used."""
    _write_grant(app.meter.void_credit_grant(tenant, grant_id, reason=reason), output)


@credits_group.command("top-up")
@click.argument("tenant")
@click.argument("amount_microcredits", metavar="AMOUNT", type=CreditsType())
@click.option(
    "--request-id", required=True, help="Name of the purchase; the same one again shows what became of it."
)
@output_option(TABLE, JSON)
@pass_app
def top_up(app: App, tenant: str, amount_microcredits: int, request_id: str, output: str) -> None:
    """Buys AMOUNT credits for TENANT: charges the card on file, and grants them when that has succeeded.

    Prints the top-up as it is now; run again to see what became of it. While another one is pending, that one is
    shown, nothing is bought, and the exit status is 1.
    """
    found = app.meter.top_up_credits(tenant, amount_microcredits, request_id=request_id)
    if output == JSON:
        write_json(_top_up(found))
    else:
        write_fields(_top_up(found))
    if found.request_id != request_id:
        click.echo(f"Nothing was bought: {found.request_id} is pending. Buy again when it is done.", err=True)
        raise click.exceptions.Exit(1)


@credits_group.command("top-ups")
@click.argument("tenant")
@output_option(TABLE, JSON, CSV)
@pass_app
def top_ups(app: App, tenant: str, output: str) -> None:
    """Lists what TENANT has bought, by hand and by itself, newest first."""
    found = [_top_up(one) for one in app.meter.list_top_ups(tenant)]
    write(output, {"topUps": found}, _TOP_UP_COLUMNS, found, empty="Nothing was bought.")


def _top_up(found: TopUp) -> dict[str, Any]:
    price_picos = found.price_minor * PICOS_PER_UNIT // 10**found.minor_digits
    return {
        "request_id": found.request_id,
        "amount": credits_text(found.amount_microcredits),
        "price": decimal_string(price_picos, found.minor_digits),
        "currency": found.currency_code,
        "state": found.state.value.lower(),
        "problem": found.problem,
        "decline_count": found.decline_count,
        "create_time": time_text(found.create_time),
        "next_attempt_time": time_text(found.next_attempt_time),
        "finish_time": time_text(found.finish_time),
        "grant_id": found.grant_id,
        "payment_id": found.payment_id,
        "external_id": found.external_id,
    }


@credits_group.command("list")
@click.argument("tenant")
@output_option(TABLE, JSON, CSV)
@pass_app
def list_command(app: App, tenant: str, output: str) -> None:
    """Lists the grants of TENANT, the earliest first."""
    grants = [_grant(found) for found in app.meter.list_credit_grants(tenant)]
    rows = [{**one, "scope": " ".join((*one["models"], *one["usage_classes"]))} for one in grants]
    write(output, {"grants": grants}, _GRANT_COLUMNS, rows, empty="Nothing was granted.")


@credits_group.command()
@click.argument("tenant")
@click.option("--grant", "grant_id", default="", help="Only what touches this grant.")
@output_option(TABLE, JSON, CSV)
@pass_app
def entries(app: App, tenant: str, grant_id: str, output: str) -> None:
    """Lists everything that changed the balance of TENANT, the earliest first: usage and who paid for it, grants, more.

    The table has a line for each move; all of them add up to the balance.
    """
    found = app.meter.list_credit_entries(tenant, grant_id=grant_id)
    rows = [row for entry in found for row in _moves(entry)]
    write(
        output,
        {"entries": [_entry(entry) for entry in found]},
        _ENTRY_COLUMNS,
        rows,
        empty="Nothing has happened.",
    )


def _entry(found: CreditEntry) -> dict[str, Any]:
    return {
        "kind": found.kind.value.lower(),
        "tenant": found.tenant,
        "record_id": found.record_id,
        "model": found.model,
        "occur_time": time_text(found.occur_time),
        "receive_time": time_text(found.receive_time),
        "note": found.note,
        "credits": credits_text(found.microcredits),
        "moves": [
            {
                "usage_class": one.usage_class,
                "grant_id": one.grant_id,
                "credits": credits_text(one.microcredits),
            }
            for one in found.moves
        ],
    }


def _moves(found: CreditEntry) -> list[dict[str, Any]]:
    entry = _entry(found)
    nothing = {"usage_class": "", "grant_id": "", "credits": "0"}
    return [{**entry, **one} for one in entry["moves"] or [nothing]]


def _write_account(found: CreditAccount, output: str) -> None:
    fields = {
        "tenant": found.tenant,
        "credit_price": decimal_string(found.picos_per_microcredit * MICROCREDITS_PER_CREDIT, 2),
        "policy": found.policy.value.lower(),
        "overdraft": credits_text(found.overdraft_microcredits),
        "available": credits_text(found.available_microcredits),
        "used": credits_text(found.used_microcredits),
        "balance": credits_text(found.balance_microcredits),
        "overdrawn": credits_text(found.overdrawn_microcredits),
        "held": credits_text(found.held_microcredits),
    }
    if output == JSON:
        write_json(fields)
    else:
        write_fields(fields)


def _grant(found: CreditGrant) -> dict[str, Any]:
    def instant(moment: datetime | None) -> str | None:
        return None if moment is None else time_text(moment)

    return {
        "grant_id": found.grant_id,
        "kind": found.kind.value.lower(),
        "priority": found.priority,
        "amount": credits_text(found.amount_microcredits),
        "remaining": credits_text(found.remaining_microcredits),
        "held": credits_text(found.held_microcredits),
        "state": found.state.value.lower(),
        "effective_time": instant(found.effective_time),
        "expire_time": instant(found.expire_time),
        "models": list(found.models),
        "usage_classes": list(found.usage_classes),
        "cost_basis": decimal_string(found.cost_basis_picos, 2),
        "note": found.note,
        "create_time": instant(found.create_time),
        "void_reason": found.void_reason,
    }


def _write_grant(found: CreditGrant, output: str) -> None:
    if output == JSON:
        write_json(_grant(found))
    else:
        write_fields(_grant(found))
