# SPDX-License-Identifier: Apache-2.0
"""The command line for the history of prices: withdrawing, going back, verifying, and prices of single tenants."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Meter, Usage

CARD = 'billing:\n  rate_card:\n    "gpt-5": {input: 1.25, output: 10}\n'


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


def test_a_future_card_is_withdrawn_and_an_old_one_published_again(
    fresh_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """The list shows what was withdrawn and by which entry; going back needs the id or the version alone."""
    taximeter = CommandLine(fresh_server().client_environment)
    card = tmp_path / "card.yaml"
    card.write_text(CARD)
    later = "2099-01-01T00:00:00Z"
    published = taximeter.json("rate-card", "publish", str(card), "--effective-time", later)
    withdrawn = taximeter.json("rate-card", "withdraw", "2", "--note", "typo", "--expected-version", "2")
    late = taximeter("rate-card", "withdraw", "1", status=1)
    first = taximeter.json("rate-card", "list")["entries"][-1]
    card.write_text(CARD.replace("1.25", "1.5"))
    taximeter("rate-card", "publish", str(card))
    back = taximeter.json("rate-card", "publish", "--card", first["rate_card_id"][:12])
    listed = taximeter.json("rate-card", "list")["entries"]

    assert (withdrawn["kind"], withdrawn["withdrawn_version"], withdrawn["note"]) == ("WITHDRAWAL", 2, "typo")
    assert "WITHDRAW_TOO_LATE" in late.stderr
    assert (back["created"], back["version"], back["rate_card_id"]) == (True, 5, first["rate_card_id"])
    assert [(entry["version"], entry["withdrawn"]) for entry in listed] == [
        (5, False),
        (4, False),
        (3, False),
        (2, True),
        (1, False),
    ]
    assert listed[3]["rate_card_id"] == published["rate_card_id"]
    both = taximeter("rate-card", "publish", str(card), "--card", "ab" * 32, status=2)
    assert "Give a FILE or --card, one of them." in both.stderr
    again = taximeter.json("rate-card", "publish", "--card", "v4")
    shown = taximeter.json("rate-card", "show", "v2")
    assert (again["version"], again["rate_card_id"]) == (6, listed[1]["rate_card_id"])
    assert shown["rate_card_id"] == published["rate_card_id"]
    for version in ("v3", "v99"):
        assert "no card has this version" in taximeter("rate-card", "show", version, status=2).stderr


def test_verify_fails_on_one_changed_byte(fresh_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The exit code is 0 while everything is as it was published, and 1 with the place of the difference."""
    data = tmp_path / "data"
    taximeter = CommandLine(fresh_server(data).client_environment)
    good = taximeter("rate-card", "verify").stdout
    (snapshot,) = (data / "ledger" / "rate-cards").glob("*.yaml")
    content = snapshot.read_bytes()
    snapshot.write_bytes(content.replace(b"15.00", b"15.01", 1))
    bad = taximeter("rate-card", "verify", "--output", "json", status=1)
    snapshot.write_bytes(content)

    assert "1 entries, 1 cards and 3 files are as they were published" in good.replace("\n", " ")
    (difference,) = json.loads(bad.stdout)["differences"]
    assert (difference["version"], difference["place"]) == (1, str(snapshot))
    assert "differs from the store from byte" in difference["message"]
    assert taximeter("rate-card", "verify").stdout == good


def test_prices_of_a_tenant_are_put_shown_and_removed(
    server: ServerProcess, taximeter: CommandLine, tmp_path: Path
) -> None:
    """A markup needs no file; what applies is shown with the level that it comes from, and goes when it is removed."""
    prices = tmp_path / "prices.yaml"
    prices.write_text('# contract 17\nbilling:\n  rate_card: {"gpt-5": {input: 4.5}}\n')
    put = taximeter.json(
        "rate-card", "tenant-prices", "put", "tp", "--markup", "-1000", "--note", "ten per cent"
    )
    own = taximeter.json("rate-card", "tenant-prices", "put", "tp/own", str(prices))
    at = (datetime.fromisoformat(own["effective_time"]) + timedelta(seconds=1)).isoformat()
    listed = taximeter.json("rate-card", "tenant-prices", "list", "--at", at)["entries"]
    shown = taximeter.json("rate-card", "tenant-prices", "get", "tp/below", "--at", at)
    removed = taximeter.json("rate-card", "tenant-prices", "remove", "tp/own")
    neither = taximeter("rate-card", "tenant-prices", "put", "tp", status=2)
    with Meter(f"http://{server.address}", key=server.admin_key) as meter:
        recorded = meter.record(
            "tp",
            Usage(uncached_input_tokens=1_000_000),
            model="gpt-5",
            occur_time=datetime.fromisoformat(put["effective_time"]),
        )
        estimate = meter.estimate(
            Usage(uncached_input_tokens=1_000_000),
            model="gpt-5",
            limits_tenant="tp",
            occur_time=datetime.fromisoformat(put["effective_time"]),
        )

    assert (put["kind"], put["tenant"], put["note"]) == ("TENANT_PRICES", "tp", "ten per cent")
    assert [entry["tenant"] for entry in listed if entry["tenant"].startswith("tp")] == ["tp", "tp/own"]
    assert (shown["tenant"], shown["tenant_prices"]) == ("tp", {"format": 1, "markup_basis_points": -1000})
    assert taximeter("rate-card", "tenant-prices", "get", "tp/own", "--at", at).stdout == prices.read_text()
    assert (removed["tenant"], removed["tenant_prices_id"]) == ("tp/own", None)
    assert "Give a FILE or --markup, one of them." in neither.stderr
    assert recorded.list_cost is not None
    assert recorded.lines[0].list_price is not None
    assert (recorded.cost.picos, recorded.list_cost.picos) == (45 * 10**11, 5 * 10**12)
    assert recorded.lines[0].list_price.unit_price == "5"
    assert estimate.cost == recorded.cost
    assert estimate.tenant_prices_version == recorded.tenant_prices_version == put["version"]


def test_warnings_of_a_rate_card_are_shown_and_stop_nobody(
    fresh_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """Validate and publish say what may not be meant, as a table and as JSON, with exit code 0."""
    taximeter = CommandLine(fresh_server().client_environment)
    card = tmp_path / "card.yaml"
    card.write_text(
        'billing:\n  rate_card:\n    "m":\n      input: 0.000000000001\n      when: [{tier: batch, multiply: 0.5}]\n'
    )
    place = {"line": 5, "column": 14, "field": "rate_card.m.when[0].multiply", "reason": "PRICE_ROUNDED"}
    validated = taximeter.json("rate-card", "validate", str(card))
    published = taximeter.json("rate-card", "publish", str(card))

    assert [validated["problems"], len(validated["rate_card_id"])] == [[], 64]
    assert place.items() <= validated["warnings"][0].items()
    assert published["warnings"] == validated["warnings"]
    for command in ("validate", "publish"):
        shown = taximeter("rate-card", command, str(card)).stdout
        assert "Warnings" in shown
        assert "(tier batch) is 0.0000000000005, which has more than 12 decimals; 0 is charged" in shown
