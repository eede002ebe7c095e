# SPDX-License-Identifier: Apache-2.0
"""Runs the contract suite's calls with the Python client; see runner_process.py for the lines it reads and writes."""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from taximeter import (
    BatchItem,
    HoldExtension,
    LimitStatus,
    Meter,
    Money,
    QuotaDecision,
    Recorded,
    ServerError,
    Usage,
    UsageRecord,
    parse_picos,
    rate_limit_headers,
)
from taximeter.clock import system_clock_ms

Json = dict[str, Any]


def duration(text: str) -> timedelta:
    """Reads a duration such as "1.5s"."""
    return timedelta(microseconds=round(float(text.removesuffix("s")) * 1_000_000))


def arguments(fields: Mapping[str, Any]) -> Json:
    """Turns the fields of a message into the arguments of a method."""
    made = dict(fields)
    for name in ("usage", "estimate"):
        if name in made:
            counts: dict[str, Any] = {kind: int(count) for kind, count in made[name].items()}
            made[name] = Usage(**counts)
    if "hold_ttl" in made:
        made["hold_ttl"] = duration(made["hold_ttl"])
    return made


def money(amount: Money | None) -> Json:
    """Writes an amount and its text."""
    return {} if amount is None else {"text": str(amount), "picos": amount.picos}


def limit(status: LimitStatus) -> Json:
    """Writes the state of a limit."""
    return asdict(status) | {
        "kind": f"LIMIT_KIND_{status.kind}",
        "reset_time": None,
        "retry_after": seconds(status.retry_after),
    }


def seconds(span: timedelta | None) -> str:
    """Writes a duration such as "1.5s"."""
    return "" if span is None else f"{span.total_seconds()}s"


def decision(answer: QuotaDecision | HoldExtension) -> Json:
    """Writes a decision, and what a gateway would tell its caller."""
    made: Json = {
        "allowed": answer.allowed,
        "limits": [limit(status) for status in answer.limits],
        "retry_after": seconds(answer.retry_after),
    }
    if isinstance(answer, QuotaDecision):
        now = datetime.fromtimestamp(system_clock_ms() // 1000, UTC)
        made |= {
            "hold_id": answer.hold_id,
            "duplicate": answer.duplicate,
            "estimated_cost": money(answer.estimated_cost),
            "headers": rate_limit_headers(answer, now),
        }
    return made


def recorded(answer: Recorded) -> Json:
    """Writes the answer to a record."""
    hold = answer.hold
    return {
        "record_id": answer.record_id,
        "duplicate": answer.duplicate,
        "cost": money(answer.cost),
        "lines": [asdict(line) for line in answer.lines],
        "pricing_state": f"PRICING_STATE_{answer.pricing_state}",
        "durability": f"DURABILITY_{answer.durability}",
        "limits": [limit(status) for status in answer.limits],
        "hold": {} if hold is None else asdict(hold) | {"state": f"HOLD_STATE_{hold.state}"},
    }


def failure(error: ServerError) -> Json:
    """Writes an error."""
    return {
        "code": error.code.name,
        "reason": error.reason,
        "metadata": error.metadata,
        "fields": [violation.field for violation in error.field_violations],
        "not_recorded": error.not_recorded,
        "text": shown(error),
    }


def shown(error: Exception) -> str:
    """Writes an error as a log shows it, with its causes."""
    return f"{error} {error!r}\n{''.join(traceback.format_exception(error))}"


def batch_item(item: BatchItem) -> Json:
    """Writes the outcome of one record of a batch."""
    made: Json = {}
    if item.recorded is not None:
        made["recorded"] = recorded(item.recorded)
    if item.error is not None:
        made["error"] = failure(item.error)
    return made


class Runner:
    """One client at a time, and the hold that was placed last."""

    def __init__(self) -> None:
        """Begins without a connection."""
        self.meter = Meter("http://127.0.0.1:1", key="none")
        self.hold_id = ""
        self.tenant = ""
        self.calls: dict[str, Callable[[Json], Json]] = {
            "connect": self.connect,
            "check": lambda given: decision(self.meter.check_quota(**arguments(given))),
            "record": lambda given: recorded(self.meter.record(**arguments(given))),
            "record_batch": self.record_batch,
            "hold": self.hold,
            "extend": self.extend,
            "release": self.release,
            "settle": self.settle,
            "show": lambda _given: {"text": f"{self.meter} {self.meter!r} {vars(self.meter)}"},
            "parse_money": lambda given: {"picos": parse_picos(given["text"])},
            "format_money": lambda given: {"text": str(Money(given["currency_code"], int(given["picos"])))},
        }

    def connect(self, given: Json) -> Json:
        """Opens another client."""
        self.meter.close()
        self.meter = Meter(given["url"], key=given["key"], ca_file=given.get("ca_file"))
        return {}

    def record_batch(self, given: Json) -> Json:
        """Records several records."""
        records = [UsageRecord(**arguments(record)) for record in given["records"]]
        items = self.meter.record_batch(records)
        return {"items": [batch_item(item) for item in items]}

    def hold(self, given: Json) -> Json:
        """Places a hold."""
        answer = self.meter.check_quota(**arguments(given))
        self.hold_id, self.tenant = answer.hold_id, given["tenant"]
        return decision(answer)

    def extend(self, given: Json) -> Json:
        """Extends the hold."""
        return decision(self.meter.extend_hold(self.tenant, self.hold_id, **arguments(given)))

    def release(self, _given: Json) -> Json:
        """Releases the hold."""
        return {"state": f"HOLD_STATE_{self.meter.release_hold(self.tenant, self.hold_id)}"}

    def settle(self, given: Json) -> Json:
        """Records what the call used."""
        return recorded(self.meter.record(self.tenant, hold_id=self.hold_id, **arguments(given)))


def main() -> None:
    """Answers line by line until the input ends."""
    runner = Runner()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: Json = {"ok": runner.calls[asked["call"]](asked["with"])}
        except ServerError as error:
            answer = {"error": failure(error)}
        except ValueError as error:
            answer = {"error": {"code": "INVALID_VALUE", "text": shown(error)}}
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()
    runner.meter.close()


if __name__ == "__main__":
    main()
