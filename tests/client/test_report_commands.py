# SPDX-License-Identifier: Apache-2.0
"""Usage metrics for scripts, and the options of reports, against the real server."""

import csv
import io
import json
import os
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest
from client.test_command_line import COST, OPUS, OPUS_COST, SONNET, SONNET_COST

from harness.command_line import CommandLine
from harness.server_process import ServerProcess, scripts_directory
from taximeter import Filter, FilterOperator, Measure, Meter, Order, ReportQuery, new_record_id
from taximeter.client import Meter as Client

AGENT = {"agent_uuid": "a-1"}
TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)  # noqa: TID251
YESTERDAY, DAY_BEFORE = ((TODAY - timedelta(days=days)).date().isoformat() for days in (1, 2))


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


@pytest.fixture
def tenant(server: ServerProcess) -> str:
    """A tenant with Opus in one workflow yesterday, Sonnet in none, and Opus in another workflow the day before."""
    name = f"t-{new_record_id()}"
    environment = server.client_environment
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        day = TODAY - timedelta(days=1)
        meter.record(
            f"{name}/a", OPUS, model="claude-opus-4-7", occur_time=day,
            attributes={"workflow_uuid": "w-1", "connector_uuid": "c-1", "integration_slug": "slack"} | AGENT,
        )  # fmt: skip
        meter.record(f"{name}/b", SONNET, model="claude-sonnet-4-6", occur_time=day)
        meter.record(
            f"{name}/a", OPUS, model="claude-opus-4-7", occur_time=day - timedelta(days=1),
            attributes={"workflow_uuid": "w-2"},
        )  # fmt: skip
    return name


def metrics(taximeter: CommandLine, tenant: str, *arguments: str, first: str = DAY_BEFORE) -> Any:
    """Return the JSON of get-metrics, its numbers as exact decimals."""
    command = ("billing", "usage", "get-metrics", "--from", first, "--to", YESTERDAY, "--tenant", tenant)
    return json.loads(taximeter(*command, *arguments).stdout, parse_float=Decimal, parse_int=Decimal)


def totals(document: Any) -> dict[str | None, Decimal]:
    """Return the counts by groupBy."""
    sums: dict[str | None, Decimal] = {}
    for day in document["metrics"]:
        for item in day["items"]:
            sums[item["groupBy"]] = sums.get(item["groupBy"], Decimal(0)) + item["count"]
    assert sum(sums.values()) == document["totalUsage"]
    return sums


def test_metrics_have_the_documented_shape(taximeter: CommandLine, tenant: str) -> None:
    """A day has items of slug, count and groupBy, which is null without --group-by; days stand in order."""
    document = metrics(taximeter, tenant, "--unit", "tokens")

    assert document == {
        "totalUsage": Decimal(2 * (142_500 + 38_200 + 12_300 + 5_400) + 891_200 + 201_400 + 84_300),
        "unit": "tokens",
        "metrics": [
            {
                "date": f"{DAY_BEFORE}T00:00:00Z",
                "items": [
                    {"slug": "cache_read", "count": 12_300, "groupBy": None},
                    {"slug": "input", "count": 142_500, "groupBy": None},
                    {"slug": "output", "count": 38_200, "groupBy": None},
                    {"slug": "reasoning", "count": 5_400, "groupBy": None},
                ],
            },
            {
                "date": f"{YESTERDAY}T00:00:00Z",
                "items": [
                    {"slug": "cache_read", "count": 96_600, "groupBy": None},
                    {"slug": "input", "count": 1_033_700, "groupBy": None},
                    {"slug": "output", "count": 239_600, "groupBy": None},
                    {"slug": "reasoning", "count": 5_400, "groupBy": None},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("workflow_uuid", {"w-1": OPUS_COST, "w-2": OPUS_COST, None: SONNET_COST}),
        ("connector_uuid", {"c-1": OPUS_COST, None: COST}),
        ("integration_slug", {"slack": OPUS_COST, None: COST}),
        ("agent_uuid", {"a-1": OPUS_COST, None: COST}),
        ("model_uuid", {"claude-opus-4-7": str(2 * Decimal(OPUS_COST)), "claude-sonnet-4-6": SONNET_COST}),
    ],
)
def test_metrics_are_grouped_by_each_key(
    taximeter: CommandLine, tenant: str, group_by: str, expected: dict[str | None, str]
) -> None:
    """Usage without a value is the null group, and the groups add up to totalUsage to the last digit."""
    found = totals(metrics(taximeter, tenant, "--group-by", group_by))

    assert {group: cost for group, cost in found.items() if cost} == {
        group: Decimal(cost) for group, cost in expected.items()
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--workflow-uuid", "w-1"), OPUS_COST),
        (("--workflow-uuid", ""), SONNET_COST),
        (("--workflow-uuid", "w-1", "--workflow-uuid", "w-2"), str(2 * Decimal(OPUS_COST))),
        (("--model-uuid", "claude-sonnet-4-6"), SONNET_COST),
        (("--connector-uuid", "c-1"), OPUS_COST),
        (("--integration-slug", "slack", "--workflow-uuid", "w-2"), "0"),
        (("--agent-uuid", "a-1", "--group-by", "workflow_uuid", "--unit", "usd"), OPUS_COST),
        (("--slug", "reasoning", "--unit", "tokens"), "10800"),
    ],
)
def test_metrics_are_filtered_by_each_key(
    taximeter: CommandLine, tenant: str, arguments: tuple[str, ...], expected: str
) -> None:
    """Every filter works alone, with others, and beside --group-by and --unit."""
    document = metrics(taximeter, tenant, *arguments)

    assert document["totalUsage"] == Decimal(expected)
    totals(document)


def test_metrics_of_one_day_include_it(taximeter: CommandLine, tenant: str) -> None:
    """--from and --to may be the same day, which is then the result."""
    document = metrics(taximeter, tenant, first=YESTERDAY)

    assert ([day["date"] for day in document["metrics"]], document["totalUsage"]) == (
        [f"{YESTERDAY}T00:00:00Z"],
        Decimal(COST),
    )
    assert (document["unit"], document["currency"], document["unpricedLines"]) == ("usd", "USD", 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing option '--from'"),
        (("--from", "2026-06-01"), "Missing option '--to'"),
        (("--from", "2026-06-31", "--to", "2026-06-30"), "--from"),
        (("--from", "2026-06-02", "--to", "2026-06-01"), "--to is before --from"),
        (("--from", "2016-06-01", "--to", "2026-06-01"), "at most 400 days"),
        (("--from", "2026-06-01", "--to", "2026-06-02", "--group-by", "tier"), "'tier' is not one of"),
        (("--bogus",), "No such option"),
    ],
)
def test_metrics_fail_as_json(taximeter: CommandLine, arguments: tuple[str, ...], words: str) -> None:
    """Whatever is wrong is {"errorMessage": ...} on stdout and exit code 1."""
    done = taximeter("billing", "usage", "get-metrics", *arguments, status=1)

    assert words in json.loads(done.stdout)["errorMessage"]


def test_summary_takes_conditions_order_and_top(taximeter: CommandLine, tenant: str) -> None:
    """Filters, an order and a bound; what is beyond the bound is one last row, and all add up."""
    arguments = ("billing", "summary", "--period", YESTERDAY, "--tenant", tenant, "--group-by", "model")
    ordered = taximeter.json(*arguments, "--order-by", "-cost")
    top = taximeter.json(*arguments, "--order-by", "-cost", "--top", "1")
    excluded = taximeter.json(*arguments, "--exclude", "model=claude-opus-4-7")
    prefixed = taximeter.json(
        *arguments, "--prefix", "model=claude-o", "--filter", "attributes.agent_uuid=a-1"
    )

    assert [row["cost"] for row in ordered["rows"]] == [SONNET_COST, OPUS_COST]
    assert [(row["model"], row["cost"], row.get("is_other")) for row in top["rows"]] == [
        ("claude-sonnet-4-6", SONNET_COST, None),
        (None, OPUS_COST, True),
    ]
    assert top["total"] == ordered["total"]
    assert [row["model"] for row in excluded["rows"]] == ["claude-sonnet-4-6"]
    assert [row["cost"] for row in prefixed["rows"]] == [OPUS_COST]
    assert "(other)" in taximeter(*arguments, "--top", "1").stdout


def test_summary_compares_with_the_period_before(taximeter: CommandLine, tenant: str) -> None:
    """The period before stands beside each row, and a table shows its cost."""
    arguments = ("billing", "summary", "--period", YESTERDAY, "--tenant", tenant, "--group-by", "model")
    document = taximeter.json(*arguments, "--compare-to", "previous-period")

    assert {row["model"]: (row["cost"], row["compared"]["cost"]) for row in document["rows"]} == {
        "claude-opus-4-7": (OPUS_COST, OPUS_COST),
        "claude-sonnet-4-6": (SONNET_COST, "0.00"),
    }
    assert document["compared_total"]["cost"] == OPUS_COST
    assert document["compared_start_time"] == f"{DAY_BEFORE}T00:00:00.000Z"
    assert "before USD" in taximeter(*arguments, "--compare-to", DAY_BEFORE).stdout
    taximeter(*arguments, "--compare-to", "yesteryear", status=2)


def test_as_of_shows_what_was_known(taximeter: CommandLine, tenant: str, server: ServerProcess) -> None:
    """A report can be asked for again byte by byte although more was recorded since."""
    arguments = ("billing", "summary", "--period", YESTERDAY, "--tenant", tenant, "--output", "json")
    first = taximeter(*arguments).stdout
    environment = server.client_environment
    with Client(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        meter.record(tenant, OPUS, model="claude-opus-4-7", occur_time=TODAY - timedelta(days=1))

    assert taximeter(*arguments, "--as-of", json.loads(first)["as_of"]).stdout == first
    assert taximeter(*arguments).stdout != first


def test_files_of_all_formats(taximeter: CommandLine, tenant: str, server: ServerProcess) -> None:
    """Parquet, JSON lines and FOCUS come as the server writes them, from summary, report and rollup."""
    commands: dict[str, tuple[str, ...]] = {
        "summary": ("--tenant", tenant),
        "report": (tenant,),
        "rollup": ("--tenant", tenant),
    }
    for command, arguments in commands.items():
        full: list[str] = [
            str(scripts_directory() / "taximeter"),
            "billing",
            command,
            *arguments,
            "--period",
            YESTERDAY,
        ]
        done = subprocess.run(
            [*full, "-o", "parquet"], env=server.client_environment, capture_output=True, check=True
        )
        assert sum(pq.read_table(io.BytesIO(done.stdout))["cost"].to_pylist()) == Decimal(COST), command
    lines = taximeter("billing", "report", tenant, "--period", YESTERDAY, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["group"]["model"] for line in lines] == ["claude-opus-4-7", "claude-sonnet-4-6"]
    focus = taximeter("billing", "report", tenant, "--period", YESTERDAY, "-o", "focus").stdout.splitlines()
    assert focus[0].startswith("BilledCost,BillingAccountId,")
    assert len(focus) == 1 + 6 + 5
    tagged = taximeter(
        *(
            "billing",
            "report",
            tenant,
            "--period",
            YESTERDAY,
            "-o",
            "focus",
            "--tag",
            "workflow_uuid",
            "--tag",
            "team",
        )
    ).stdout
    rows = list(csv.DictReader(tagged.splitlines()))
    assert Counter(row["Tags"] for row in rows) == {'{"workflow_uuid":"w-1"}': 6, "": 5}
    assert {row["SkuId"] for row in rows} == {"claude-opus-4-7", "claude-sonnet-4-6"}


def test_days_of_a_rollup_add_up_to_its_total(taximeter: CommandLine, server: ServerProcess) -> None:
    """Every sum of the total is in the days, credits and what no grant covered included."""
    name, environment = f"t-{new_record_id()}", server.client_environment
    taximeter("billing", "credits", "account", name, "--credit-price", "0.01")
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        meter.record(name, OPUS, model="claude-opus-4-7", occur_time=TODAY - timedelta(days=1))
    found = taximeter.json("billing", "rollup", "--tenant", name, "--from", DAY_BEFORE, "--to", YESTERDAY)

    empty, day = found["days"]
    assert {key: value for key, value in day.items() if key not in {"date", "models"}} == found["total"]
    assert Decimal(day["credits"]) == Decimal(day["overdrawn_credits"]) == Decimal(OPUS_COST) * 100
    assert (empty["calls"], empty["credits"]) == (0, "0")


def test_no_parquet_on_a_terminal(server: ServerProcess, tenant: str) -> None:
    """A file that is not text is refused where it would be printed, before anything is asked of the server."""
    terminal, stdout = os.openpty()
    command = [str(scripts_directory() / "taximeter"), "billing", "report", tenant, "-o", "parquet"]
    try:
        done = subprocess.run(
            command, env=server.client_environment, stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(stdout)
        os.close(terminal)
    assert done.returncode == 2
    assert b"send it to a file" in done.stderr


def test_the_client_chooses_measures(server: ServerProcess, tenant: str) -> None:
    """What was not asked for is empty; conditions and order are those of the API."""
    environment = server.client_environment
    query = ReportQuery(
        start_time=TODAY - timedelta(days=3),
        end_time=TODAY,
        tenant=tenant,
        group_by=("tenant_level_2",),
        filters=(Filter("attributes.workflow_uuid", operator=FilterOperator.NOT_NULL),),
        measures=(Measure.COST,),
        order=(Order("cost", descending=True),),
    )
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        (row,) = meter.query_report(query).rows

    assert (row.group, row.measures.cost.amount) == (
        {"tenant_level_2": f"{tenant}/a"},
        2 * Decimal(OPUS_COST),
    )
    assert (row.measures.calls, row.measures.quantities, row.measures.list_cost.picos) == (0, {}, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "acme", "--csv", "--order-by", "-cost"), "--order-by and --top are not for csv"),
        (("report", "acme", "--output", "focus", "--top", "3"), "--order-by and --top are not for focus"),
        (("report", "acme", "--csv", "--tag", "team"), "--tag is for --output focus"),
        (("report", "acme", "--csv", "--output", "json"), "--csv and --output exclude each other"),
        (("summary", "--compare-to", "next"), "--compare-to: 'next' is none of current-month"),
        (
            ("estimate", "--sample", "a=b", "--sample-period", "next"),
            "--sample-period: 'next' is none of current-month",
        ),
        (("estimate", "--model", "gpt-5", "--high", "output=x"), "--high: output: 'x' is not a valid"),
        (("estimate", "--model", "gpt-5", "--other", "pages=-1"), "--other: pages: -1 is not in the range"),
    ],
)
def test_what_a_command_cannot_do_is_said_and_not_left_out(
    taximeter: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    """An option that would change nothing, or a value that is none, is an error that names it."""
    assert said in " ".join(taximeter("billing", *arguments, status=2).stderr.split())
