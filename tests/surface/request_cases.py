# SPDX-License-Identifier: Apache-2.0
"""Reads cases/bad-input.yaml: cases and the requests that they describe."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import text_format
from google.protobuf.message import Message
from surface.raw_bytes import GENERATORS

from taximeter.v1 import metering_service_pb2 as pb
from taximeter.v1 import tenant_service_pb2

CASES_FILE = Path(__file__).parents[1] / "cases" / "bad-input.yaml"
_REQUESTS: Mapping[str, type[Message]] = {
    "Record": pb.RecordRequest,
    "RecordBatch": pb.RecordBatchRequest,
    "CheckQuota": pb.CheckQuotaRequest,
    "ExtendHold": pb.ExtendHoldRequest,
    "ReleaseHold": pb.ReleaseHoldRequest,
    "PutTenant": tenant_service_pb2.PutTenantRequest,
}
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_OFFSET = re.compile(r"(?P<kind>now|uuid)(?P<sign>[+-])(?P<count>\d+)(?P<unit>[mhd])")


@dataclass(frozen=True)
class Case:
    """One request of the file, for one method and one of its values."""

    row: str
    method: str
    each: str
    number: int
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What identifies the case in the output of the tests."""
        position = self.document.get("each", [""]).index(self.each)
        hint = self.document.get("bytes") or re.sub(r"[^\w.:+*-]+", "_", self.each)
        return f"{self.row}-{self.method}-{self.number}.{position}-{hint}"

    def text(self, key: str) -> str:
        """Return a text of the case, with ${each} filled in."""
        return str(self.document.get(key, "")).replace("${each}", self.each)

    def texts(self, key: str) -> list[str]:
        """Return the texts of a list of the case, with ${each} filled in."""
        return [str(text).replace("${each}", self.each) for text in self.document.get(key, [])]

    def request(self, now_s: int, holds: Mapping[str, str]) -> bytes:
        """Return the request's bytes. holds: ids of holds of bad-input by their names in the file."""
        message = _REQUESTS[self.method]()
        base = str(_DOCUMENT["base"].get(self.method, ""))
        text_format.Merge(filled(base.replace("bad-input", self.tenant), now_s, holds), message)
        for path in self.document.get("clear", []):
            *parents, last = path.split(".")
            at = message
            for parent in parents:
                at = getattr(at, parent)
            at.ClearField(last)
        text_format.Merge(filled(self.text("request"), now_s, holds), message)
        generator = self.document.get("bytes")
        return GENERATORS[generator](message) if generator else message.SerializeToString()

    @property
    def tenant(self) -> str:
        """The tenant of the base message: refused ones must not show in its sums."""
        return "bad-input" if "code" in self.document else "good-input"


def filled(text: str, now_s: int, holds: Mapping[str, str]) -> str:
    """Return text with each ${...} filled in, repeatedly. now_s: seconds since 1970 UTC."""
    return re.sub(r"\$\{([^{}]+)\}", lambda found: holds.get(found[1]) or _value(found[1], now_s), text)


def _value(expression: str, now_s: int) -> str:
    day_s = now_s // 86_400 * 86_400
    fixed: dict[str, Callable[[], str]] = {
        "id": lambda: secrets.token_hex(16),
        "id16": lambda: secrets.token_hex(8),
        "id64": lambda: secrets.token_hex(32),
        "midnight": lambda: f"seconds: {day_s}",
        "before_midnight": lambda: f"seconds: {day_s - 1} nanos: 999999999",
    }
    if expression in fixed:
        return fixed[expression]()
    if found := _OFFSET.fullmatch(expression):
        seconds = now_s + int(found["sign"] + found["count"]) * _SECONDS[found["unit"]]
        return f"seconds: {seconds}" if found["kind"] == "now" else uuid_v7(seconds * 1000)
    count, _, repeated = expression.partition("*")
    return repeated * int(count)


def uuid_v7(time_ms: int) -> str:
    """Return a UUIDv7 of an instant."""
    number = time_ms << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def cases(group: str) -> list[Case]:
    """Return the cases of a group of the file."""
    return [
        Case(document["row"], method, each, number, document)
        for number, document in enumerate(_DOCUMENT[group])
        for method in document["methods"]
        for each in document.get("each", [""])
    ]


_DOCUMENT = yaml.safe_load(CASES_FILE.read_text(encoding="utf-8"))
