# SPDX-License-Identifier: Apache-2.0
"""Estimates from tokens and from sample runs, against the real server: bounds, limits, and batches that are watched."""

import json
from datetime import UTC, datetime

import pytest
from client.test_command_line import OPUS, OPUS_COST

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Limits, Meter, Role, Usage

ONE_CALL = ("--model", "claude-opus-4-7", "--input-tokens", "1000", "--output-tokens", "100")
# 1,000 input tokens at 15 and 100 output tokens at 75 dollars per million.
ONE_CALL_COST = "0.0225"


@pytest.fixture
def taximeter(server: ServerProcess) -> CommandLine:
    """The command line with the admin key of the running server."""
    return CommandLine(server.client_environment)


def test_a_token_estimate_has_two_bounds(taximeter: CommandLine) -> None:
    """--high says what an expensive call has more; without it both bounds are the cost."""
    plain = taximeter.json("billing", "estimate", *ONE_CALL, "--calls", "1000")
    bounded = taximeter.json("billing", "estimate", *ONE_CALL, "--calls", "1000", "--high", "output=5000")

    assert (plain["low_cost"], plain["cost"], plain["high_cost"]) == ("22.50", "22.50", "22.50")
    assert (bounded["low_cost"], bounded["high_cost"]) == ("22.50", "390.00")
    taximeter("billing", "estimate", *ONE_CALL, "--high", "output=5", status=1)


def test_limits_say_what_would_stop_a_batch_and_when(
    taximeter: CommandLine, meter: Meter, tenant: str
) -> None:
    """The limit that stops first comes first, with the number of calls that pass and the time."""
    meter.put_tenant(
        tenant, Limits(requests_per_minute=600, tokens_per_day=500_000, cost_per_day_picos=9 * 10**12)
    )
    arguments = ("billing", "estimate", *ONE_CALL, "--calls", "1000", "--tenant", f"{tenant}/team")

    at_once = taximeter.json(*arguments)["limits"]
    paced = taximeter.json(*arguments, "--calls-per-minute", "60")["limits"]

    assert [
        (limit["limit"], limit["stops"], limit["passed_count"], limit["needed"]) for limit in at_once
    ] == [
        ("cost_per_day", True, 400, "22.50"),
        ("tokens_per_day", True, 454, 1_100_000),
        ("requests_per_minute", True, 600, 1_000),
    ]
    assert [(limit["limit"], limit["stops"]) for limit in paced][:1] == [("cost_per_day", True)]
    assert {limit["limit"]: limit["stops"] for limit in paced}["requests_per_minute"] is False
    assert "stopped by" in taximeter(*arguments).stdout
    small = taximeter.json("billing", "estimate", *ONE_CALL, "--calls", "100", "--tenant", tenant)["limits"]
    assert {limit["limit"]: (limit["stops"], limit["remaining_after"]) for limit in small} == {
        "cost_per_day": (False, "6.75"),
        "tokens_per_day": (False, 390_000),
        "requests_per_minute": (False, 500),
    }


def test_a_sample_is_projected(taximeter: CommandLine, meter: Meter, tenant: str) -> None:
    """A recorded run times N: by its items, whose cheapest and dearest are the bounds, or by their number."""
    for item, tokens in (("a", 1_000), ("a", 1_000), ("b", 4_000)):
        meter.record(
            tenant, Usage(uncached_input_tokens=tokens), model="claude-opus-4-7",
            attributes={"run_id": "r-1", "row_id": item},
        )  # fmt: skip
    meter.record(tenant, OPUS, model="claude-opus-4-7", attributes={"run_id": "r-2"})
    arguments = (
        "billing",
        "estimate",
        "--tenant",
        tenant,
        "--sample",
        "attributes.run_id=r-1",
        "--calls",
        "1000",
    )

    told = taximeter.json(*arguments, "--sample-by", "attributes.row_id")
    counted = taximeter.json(*arguments, "--sample-items", "3")
    whole = taximeter.json(*arguments)

    # Row a cost 0.03, row b 0.06.
    assert (told["sample_items"], told["cost_per_call"]) == (2, "0.045")
    assert (told["low_cost"], told["cost"], told["high_cost"]) == ("30.00", "45.00", "60.00")
    assert (counted["sample_items"], counted["cost"], counted["low_cost"]) == (3, "30.00", "30.00")
    assert (whole["sample_items"], whole["cost"]) == (1, "90.00")
    assert "after a sample of 2" in taximeter(*arguments, "--sample-by", "attributes.row_id").stdout


def test_a_sample_is_priced_by_another_card(taximeter: CommandLine, meter: Meter, tenant: str) -> None:
    """With --rate-card the sample's quantities are priced by that card, whatever was charged."""
    card = next(iter(meter.list_rate_cards())).rate_card_id
    meter.record(tenant, OPUS, model="claude-opus-4-7", attributes={"run_id": "r-1"})
    arguments = ("--tenant", tenant, "--sample", "attributes.run_id=r-1", "--rate-card", card)

    assert taximeter.json("billing", "estimate", *arguments)["cost"] == OPUS_COST


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--sample", "attributes.run_id=absent"), 1, "no records match"),
        (("--sample", "attributes.run_id=x", "--model", "gpt-5"), 2, "excludes"),
        (("--sample-items", "3", *ONE_CALL), 2, "need --sample"),
        (("--sample", "attributes.run_id=x", "--sample-by", "day"), 1, "item_dimension"),
        (
            ("--sample", "attributes.run_id=x", "--sample-by", "tenant", "--sample-items", "2"),
            1,
            "item_count",
        ),
        ((*ONE_CALL, "--calls", "1000000001"), 1, "call_count"),
        ((*ONE_CALL, "--calls-per-minute", "1000000001"), 1, "calls_per_minute"),
    ],
)
def test_what_cannot_be_estimated_says_why(
    taximeter: CommandLine, tenant: str, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """Each contradiction is named."""
    assert words in taximeter("billing", "estimate", "--tenant", tenant, *arguments, status=status).stderr


def test_a_key_that_only_records_cannot_read_samples(
    server: ServerProcess, meter: Meter, tenant: str
) -> None:
    """A sample shows what others paid: it takes a key that may read reports."""
    secret = meter.create_key(Role.METER).secret
    command = CommandLine(server.client_environment | {"TAXIMETER_KEY": secret})

    done = command("billing", "estimate", "--sample", "attributes.run_id=x", "--tenant", tenant, status=1)
    assert "role" in done.stderr
    command("billing", "estimate", *ONE_CALL)


def test_a_batch_is_watched_until_it_is_through(taximeter: CommandLine, meter: Meter, tenant: str) -> None:
    """--watch shows cost so far and where it is heading, and exits with 1 when that is above the estimate."""
    since = datetime.now(UTC).isoformat()  # noqa: TID251
    usage = Usage(uncached_input_tokens=1_000, visible_output_tokens=100)
    for _ in range(3):
        meter.record(tenant, usage, model="claude-opus-4-7", attributes={"batch": "b-1"})
    arguments = ("billing", "estimate", *ONE_CALL, "--calls", "3", "--tenant", tenant, "-o", "json")
    watch = ("--watch", "attributes.batch=b-1", "--since", since, "--interval", "1")

    through = json.loads(taximeter(*arguments, *watch).stdout)
    meter.record(tenant, OPUS, model="claude-opus-4-7", attributes={"batch": "b-1"})
    above = json.loads(taximeter(*arguments, *watch, status=1).stdout)

    assert (through["calls"], through["of"], through["cost"], through["state"]) == (3, 3, "0.0675", "within")
    assert (above["calls"], above["state"]) == (4, "above")
