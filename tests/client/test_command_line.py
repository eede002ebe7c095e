# SPDX-License-Identifier: Apache-2.0
"""The command line against the real server: what it prints, where, and how it ends."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.command_line import CommandLine
from harness.server_process import ServerProcess, clean_environment
from taximeter import Limits, Meter, Role, Usage

SEED_COLUMNS = [
    "date",
    "tenant",
    "model",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "reasoning_tokens",
    "tool_calls",
    "sandbox_seconds",
    "cost_usd",
]
EXTRA_COLUMNS = ["cache_read", "cache_write", "cost_exact", "rate_card_id"]
# The rows of the product's documentation, with the amounts that its card gives.
OPUS = Usage(
    uncached_input_tokens=142_500,
    visible_output_tokens=38_200,
    cache_read_tokens=12_300,
    reasoning_tokens=5_400,
    tool_calls=42,
    sandbox_ms=128_400,
)
SONNET = Usage(
    uncached_input_tokens=891_200,
    visible_output_tokens=201_400,
    cache_read_tokens=84_300,
    tool_calls=128,
    sandbox_ms=512_200,
)
OPUS_COST, SONNET_COST, COST = "5.42595", "5.71989", "11.14584"


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def billed(meter: Meter, tenant: str) -> str:
    """A tenant with one call to each of two models, a level below it, noon of yesterday."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)  # noqa: TID251
    meter.record(f"{tenant}/research", OPUS, model="claude-opus-4-7", occur_time=noon)
    meter.record(f"{tenant}/research", SONNET, model="claude-sonnet-4-6", occur_time=noon)
    return tenant


@pytest.fixture
def yesterday() -> str:
    """The UTC day of what `billed` recorded."""
    return (datetime.now(UTC) - timedelta(days=1)).date().isoformat()  # noqa: TID251


def test_whoami_names_role_and_server(taximeter: CommandLine, server: ServerProcess) -> None:
    """The key that the server made for this machine is an admin key, found without any option."""
    caller = taximeter.json("whoami")

    assert ("admin", [], f"http://{server.address}") == (
        caller["role"],
        caller["tenants"],
        caller["server_url"],
    )
    assert "admin" in taximeter("whoami").stdout


def test_the_server_is_found_by_its_data_directory(server: ServerProcess, tmp_path: Path) -> None:
    """On the server's machine neither address nor key has to be given."""
    environment = clean_environment({"TAXIMETER_DATA": str(server.data_dir), "HOME": str(tmp_path)})

    assert CommandLine(environment).json("whoami")["role"] == "admin"


def test_report_csv_has_the_stable_columns(taximeter: CommandLine, billed: str, yesterday: str) -> None:
    """The ten columns that finance relies on come first, in order, then the exact ones; amounts are the card's."""
    done = taximeter("billing", "report", billed, "--period", "yesterday", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))

    assert [*SEED_COLUMNS, *EXTRA_COLUMNS] == done.stdout.splitlines()[0].split(",")
    assert [
        [
            yesterday,
            f"{billed}/research",
            "claude-opus-4-7",
            "142500",
            "38200",
            "12300",
            "5400",
            "42",
            "128.4",
            "5.425950",
        ],
        [
            yesterday,
            f"{billed}/research",
            "claude-sonnet-4-6",
            "891200",
            "201400",
            "84300",
            "0",
            "128",
            "512.2",
            "5.719890",
        ],
    ] == [[row[name] for name in SEED_COLUMNS] for row in rows]
    assert [row["cost_exact"] for row in rows] == ["5.425950000000", "5.719890000000"]
    assert all(len(row["rate_card_id"]) == 64 for row in rows)


def test_report_output_csv_is_the_same_file(taximeter: CommandLine, billed: str) -> None:
    """--csv and --output csv are two names of one thing."""
    arguments = ("billing", "report", billed, "--period", "yesterday")

    assert taximeter(*arguments, "--csv").stdout == taximeter(*arguments, "--output", "csv").stdout


def test_report_table_has_a_total(taximeter: CommandLine, billed: str) -> None:
    """People see each day, tenant and model, and the sum."""
    table = taximeter("billing", "report", billed, "--period", "yesterday").stdout

    for text in ("claude-opus-4-7", "891,200", OPUS_COST, SONNET_COST, COST, "total"):
        assert text in table


def test_summary_sums_a_tenant_with_everything_below_it(taximeter: CommandLine, billed: str) -> None:
    """A summary names top-level tenants; the levels below count as theirs."""
    summary = taximeter.json("billing", "summary", "--period", "yesterday", "--tenant", billed)

    assert [(billed, 2, COST)] == [(row["root_tenant"], row["calls"], row["cost"]) for row in summary["rows"]]
    assert (
        summary["total"]["cost"],
        summary["currency"],
        summary["total"]["sandbox_seconds"],
    ) == (COST, "USD", "640.6")


def test_summary_across_all_tenants_contains_each(taximeter: CommandLine, billed: str) -> None:
    """Without --tenant every tenant is there, and in CSV each is a line without a total."""
    text = taximeter("billing", "summary", "--period", "yesterday", "--output", "csv").stdout
    rows = {row["root_tenant"]: row for row in csv.DictReader(io.StringIO(text))}

    assert rows[billed]["cost"] == COST
    assert "total" not in rows


def test_summary_groups_by_what_is_asked(taximeter: CommandLine, billed: str) -> None:
    """--group-by takes any dimensions, in order."""
    arguments = ("--period", "yesterday", "--tenant", billed, "--group-by", "model", "--group-by", "tenant")
    rows = taximeter.json("billing", "summary", *arguments)["rows"]

    assert [("claude-opus-4-7", f"{billed}/research"), ("claude-sonnet-4-6", f"{billed}/research")] == [
        (row["model"], row["tenant"]) for row in rows
    ]


def test_rollup_has_every_day_of_both_ends(taximeter: CommandLine, billed: str, yesterday: str) -> None:
    """--to is included, days without usage are zero, and the days add up to the total."""
    first = (datetime.fromisoformat(yesterday) - timedelta(days=2)).date().isoformat()
    arguments = ("--tenant", billed, "--from", first, "--to", yesterday, "--format", "json")
    rollup = json.loads(taximeter("billing", "rollup", *arguments).stdout)

    assert (first, yesterday, 3) == (rollup["from"], rollup["to"], len(rollup["days"]))
    assert [(day["cost"], day["calls"]) for day in rollup["days"]] == [("0.00", 0), ("0.00", 0), (COST, 2)]
    assert [model["cost"] for model in rollup["days"][-1]["models"]] == [OPUS_COST, SONNET_COST]
    assert rollup["total"]["cost"] == COST


def test_a_period_without_usage_says_so(taximeter: CommandLine, tenant: str) -> None:
    """An empty period is a sentence on a terminal and an empty list for programs."""
    arguments = ("billing", "summary", "--tenant", tenant, "--period", "2026-06-03", "--tz", "Europe/Berlin")

    assert "No usage in 2026-06-03 (Europe/Berlin)." in taximeter(*arguments).stdout
    document = taximeter.json(*arguments)
    assert (document["rows"], document["total"]["cost"]) == ([], "0.00")
    assert (document["start_time"], document["end_time"]) == (
        "2026-06-02T22:00:00.000Z",
        "2026-06-03T22:00:00.000Z",
    )


def test_estimate_prices_every_class(taximeter: CommandLine) -> None:
    """An estimate shows the price of one call and of all of them, exactly."""
    arguments = ("--model", "claude-opus-4-7", "--input-tokens", "142500", "--output-tokens", "38200")
    more = ("--cache-read-tokens", "12300", "--reasoning-tokens", "5400", "--calls", "1000")
    estimate = taximeter.json("billing", "estimate", *arguments, *more)

    assert (estimate["cost_per_call"], estimate["cost"], estimate["currency"]) == (
        OPUS_COST,
        "5425.95",
        "USD",
    )
    assert {"input", "output", "cache_read", "reasoning"} == {
        line["usage_class"] for line in estimate["lines"]
    }


def test_tenant_limits_are_read_exactly(taximeter: CommandLine, tenant: str) -> None:
    """An amount in the units of people arrives to the last pico-unit, and a limit left out is gone."""
    put = ("tenant", "put", tenant, "--cost-per-day", "12.500000000001", "--requests-per-minute", "600")
    taximeter(*put, "--display-name", "A tenant")
    found = taximeter.json("tenant", "get", tenant)

    assert (
        found["cost_per_day"],
        found["requests_per_minute"],
        found["tokens_per_day"],
        found["display_name"],
    ) == ("12.500000000001", 600, None, "A tenant")
    taximeter("tenant", "put", tenant, "--tokens-per-day", "0")
    found = taximeter.json("tenant", "list", "--parent", tenant)["tenants"][0]
    assert (found["cost_per_day"], found["requests_per_minute"], found["tokens_per_day"]) == (None, None, 0)


@pytest.mark.parametrize("arguments", [(), ("--plan", "pro", "--tokens-per-day", "5")])
def test_a_simulation_is_of_limits_or_of_a_plan(taximeter: CommandLine, arguments: tuple[str, ...]) -> None:
    """Without limits nobody would be stopped, and of a plan and other limits one would be left out in silence."""
    done = taximeter("quota", "simulate", "--period", "today", *arguments, status=2)
    assert "Give limits, or --plan" in done.stderr


def test_override_stands_in_and_is_shown_with_its_end(taximeter: CommandLine, tenant: str) -> None:
    """Temporary and watched limits are set, shown with their end in the quota's status, and ended by hand."""
    taximeter(
        "tenant", "put", tenant, "--tokens-per-day", "10", "--requests-per-minute", "5", "--shadow", "all"
    )
    taximeter("tenant", "override", tenant, "--for", "2h", "--tokens-per-day", "1000")
    limits = {limit["limit"]: limit for limit in taximeter.json("quota", "status", tenant)["limits"]}

    assert {name: (limit["maximum"], limit["mode"]) for name, limit in limits.items()} == {
        "requests_per_minute": (5, "shadow"),
        "tokens_per_day": (1000, "shadow"),
    }
    assert limits["requests_per_minute"]["temporary_until_time"] is None
    found = taximeter.json("tenant", "get", tenant)
    assert (
        found["temporary_limits"]["until_time"][:17] == limits["tokens_per_day"]["temporary_until_time"][:17]
    )
    told = taximeter("tenant", "get", tenant).stdout
    assert (
        f"temporary limits     tokens per day 1,000, until time {found['temporary_limits']['until_time']}"
        in told
    )
    over = ("--until", "2020-01-01T00:00:00Z", "--tokens-per-day", "5")
    assert "is over" in taximeter("tenant", "override", tenant, *over, status=2).stderr
    taximeter("tenant", "override", tenant, "--end")
    assert taximeter.json("quota", "status", tenant)["limits"][1]["maximum"] == 10
    assert "--for" in taximeter("tenant", "override", tenant, status=2).stderr


def test_quota_status_shows_what_is_used(taximeter: CommandLine, meter: Meter, tenant: str) -> None:
    """Each limit of the tenant is there with what is left, amounts as decimals."""
    meter.put_tenant(tenant, Limits(tokens_per_day=1_000, cost_per_day_picos=25 * 10**12))
    meter.record(tenant, Usage(uncached_input_tokens=100), model="gpt-5")
    limits = {limit["limit"]: limit for limit in taximeter.json("quota", "status", tenant)["limits"]}

    assert (limits["tokens_per_day"]["used"], limits["tokens_per_day"]["remaining"]) == (100, 900)
    assert (limits["cost_per_day"]["used"], limits["cost_per_day"]["remaining"]) == ("0.0005", "24.9995")
    assert "24.9995" in taximeter("quota", "status", tenant).stdout


def test_a_key_without_the_role_is_forbidden(taximeter: CommandLine, meter: Meter) -> None:
    """A key that may not do this gets the object that scripts look for, and exit code 1."""
    secret = meter.create_key(Role.METER).secret
    forbidden = CommandLine({**taximeter.environment, "TAXIMETER_KEY": secret})
    done = forbidden("billing", "summary", status=1)

    assert json.loads(done.stdout) == {"errorMessage": "forbidden"}
    assert "ROLE_MISSING" in done.stderr


def test_an_unknown_key_is_told_how_to_give_one(taximeter: CommandLine) -> None:
    """Without a valid key nothing is on stdout and stderr says where keys come from."""
    done = CommandLine({**taximeter.environment, "TAXIMETER_KEY": "tx_unknown"})("whoami", status=1)

    assert done.stdout == ""
    assert "TAXIMETER_KEY" in done.stderr


def test_an_error_names_the_field(taximeter: CommandLine) -> None:
    """What the server refuses is on stderr with its field, and the exit code is 1."""
    done = taximeter("tenant", "put", "Not A Tenant", status=1)

    assert done.stdout == ""
    assert "tenant.name" in done.stderr


def test_no_server_is_an_error_not_a_trace(tmp_path: Path) -> None:
    """A server that is not there is one sentence with its address."""
    done = CommandLine(clean_environment({"HOME": str(tmp_path)}))(
        "--url", "http://127.0.0.1:9", "whoami", status=1
    )

    assert "no answer from http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_made_listed_and_revoked(taximeter: CommandLine, tenant: str) -> None:
    """A secret is shown once; a revoked key says since when."""
    created = taximeter.json("key", "create", "--role", "read", "--tenant", tenant, "--note", "finance")
    listed = {key["key_id"]: key for key in taximeter.json("key", "list")["keys"]}

    assert created["secret"].startswith(f"tx_{created['key_id']}")
    assert ("read", [tenant], "finance", None) == tuple(
        listed[created["key_id"]][name] for name in ("role", "tenants", "note", "revoke_time")
    )
    assert created["secret"] not in taximeter("key", "list").stdout
    rotated = taximeter.json("key", "rotate", created["key_id"], "--grace-hours", "1")
    assert (rotated["note"], rotated["predecessor_id"]) == ("finance", created["key_id"])
    assert rotated["predecessor"]["successor_id"] == rotated["key_id"]
    assert taximeter.json("key", "revoke", created["key_id"])["revoke_time"] is not None


def test_rate_cards_are_validated_before_they_are_published(taximeter: CommandLine, tmp_path: Path) -> None:
    """Problems are listed with their place and exit code 1; a good card says its id."""
    card = tmp_path / "card.yaml"
    card.write_text(
        'billing:\n  currency: USD\n  rate_card:\n    "gpt-5":\n      input: cheap\n      output: -1\n'
    )
    done = taximeter("rate-card", "validate", str(card), "--output", "json", status=1)

    assert [problem["line"] for problem in json.loads(done.stdout)["problems"]] == [5, 6]
    good = taximeter("rate-card", "show", "--output", "yaml").stdout
    assert taximeter("rate-card", "validate", "-", stdin=good).stdout.startswith("Good.")


def test_a_published_card_is_listed_and_shown(
    fresh_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """A card goes in as a file and comes out by its id, byte for byte; the same content is no new version."""
    taximeter = CommandLine(fresh_server().client_environment)
    card = tmp_path / "card.yaml"
    card.write_text(
        '# ours\nbilling:\n  currency: USD\n  rate_card:\n    "gpt-5":\n      input: 1.25\n      output: 10\n'
    )
    published = taximeter.json("rate-card", "publish", str(card), "--note", "cheaper")
    newest = taximeter.json("rate-card", "list")["entries"][0]

    assert published["created"]
    assert (published["rate_card_id"], "cheaper") == (newest["rate_card_id"], newest["note"])
    assert card.read_text() == taximeter("rate-card", "show", published["rate_card_id"][:8]).stdout
    assert not taximeter.json("rate-card", "publish", str(card))["created"]
    card.write_text(card.read_text().replace("1.25", "1.50"))
    stale = taximeter("rate-card", "publish", str(card), "--expected-version", "1", status=1)
    assert "CARD_VERSION_CONFLICT" in stale.stderr


def test_server_status_and_conflicts(taximeter: CommandLine) -> None:
    """An operator sees that the store answers, and that no record needs a decision."""
    status = taximeter.json("server", "status")

    assert status["store_available"]
    assert taximeter.json("server", "conflicts") == {"conflicts": []}


@pytest.mark.parametrize(
    "arguments",
    [
        ("billing", "summary", "--period", "next-month"),
        ("billing", "summary", "--from", "2026-06-01"),
        ("billing", "summary", "--from", "2026-06-02", "--to", "2026-06-01"),
        ("billing", "summary", "--period", "today", "--from", "2026-06-01", "--to", "2026-06-01"),
        ("billing", "summary", "--tz", "Mars/Olympus"),
        ("billing", "rollup", "--tenant", "acme"),
        ("tenant", "put", "acme", "--cost-per-day", "1e3"),
        ("tenant", "put", "acme", "--cost-per-day", "-1"),
        ("billing", "estimate", "--sandbox-seconds", "0.0001"),
        ("billing", "estimate", "--other", "images"),
        ("billing", "estimate", "--other", "images=1", "--other", "images=2"),
        ("billing", "estimate", "--input-tokens", "9223372036854775808"),
        ("billing", "estimate", "--at", "0001-01-01T00:00:00+14:00"),
        ("key", "create"),
        ("nothing",),
    ],
)
def test_bad_usage_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """What cannot be meant is refused before any server is asked, with exit code 2."""
    done = CommandLine(clean_environment({"HOME": str(tmp_path), "TAXIMETER_URL": "http://127.0.0.1:9"}))(
        *arguments, status=2
    )

    assert "Usage:" in done.stderr
