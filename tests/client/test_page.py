# SPDX-License-Identifier: Apache-2.0
"""The page for people: whole in one file, exact, and safe whatever names contain."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from client.test_command_line import COST, OPUS, OPUS_COST, SONNET
from hypothesis import given
from hypothesis import strategies as st

from harness.command_line import CommandLine
from harness.server_process import ServerProcess
from taximeter import Limits, Measures, Meter, Money, ReportRow, new_record_id
from taximeter.page.cache_savings import CacheSavings, savings
from taximeter.page.render import _cents

HOSTILE = "</script><script>alert(1)</script>"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class PageReader(HTMLParser):
    """Reads a page: text of each element that matters, all attributes, and whether tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag in {"td", "th"}:
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note its end."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.open and self.open[-1] in {"td", "th"}:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def page(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The page of a tenant with priced and unpriced usage yesterday and the day before, and the tenant's name."""
    tenant = f"t-{new_record_id()}"
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)  # noqa: TID251
    environment = server.client_environment
    with Meter(environment["TAXIMETER_URL"], key=environment["TAXIMETER_KEY"]) as meter:
        meter.put_tenant(tenant, Limits(cost_per_day_picos=10**12))
        meter.record(f"{tenant}/a", OPUS, model="claude-opus-4-7", occur_time=noon)
        meter.record(f"{tenant}/b", SONNET, model="claude-sonnet-4-6", occur_time=noon)
        meter.record(f"{tenant}/b", OPUS, model="claude-opus-4-7", occur_time=noon - timedelta(days=1))
        meter.record(f"{tenant}/b", OPUS, model=HOSTILE, occur_time=noon)
    path = tmp_path_factory.mktemp("page") / "page.html"
    arguments = ("--period", noon.date().isoformat(), "--tenant", tenant, "--html", str(path))
    done = CommandLine(environment)("billing", "summary", *arguments)
    assert (done.stdout, done.stderr) == ("", f"Wrote {path}.\n")
    return path.read_text(encoding="utf-8"), tenant


def test_the_page_fetches_nothing(page: tuple[str, str]) -> None:
    """No element refers to anything outside the file, and its policy would forbid it."""
    text, _ = page
    reader = PageReader(text)

    assert reader.open == []
    assert [one for one in reader.attributes if one[1] in {"src", "href", "srcset", "action"}] == []
    (policy,) = (
        value for _, name, value in reader.attributes if name == "content" and "default-src" in value
    )
    assert policy.startswith("default-src 'none';")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_shows_the_sums(page: tuple[str, str]) -> None:
    """Tables have cost, share and change; what charts draw adds up to the total to the last digit."""
    text, tenant = page
    reader = PageReader(text)
    (data,) = (json.loads(body) for attributes, body in reader.scripts if attributes.get("id") == "data")

    for part in ("trend", "models", "tenants"):
        assert sum(Decimal(row["cost"]) for row in data[part]) == Decimal(COST), part
    assert [row["name"] for row in data["tenants"]] == [f"{tenant}/b", f"{tenant}/a"]
    first = reader.cells.index("claude-opus-4-7")
    assert reader.cells[first + 1 : first + 5] == ["5.43", "48.7 %", "0.0 %", "1"]
    assert f"{Decimal(COST):.2f} USD" in text
    assert "This usage had no price" in text
    assert '<meter min="0" max="100"' in text
    assert OPUS_COST in json.dumps(data)


def test_names_are_text(page: tuple[str, str]) -> None:
    """A model named like a script is shown, and is no script."""
    reader = PageReader(page[0])

    assert len(reader.scripts) == 3
    assert HOSTILE in reader.cells
    assert "alert(1)" not in "".join(body for attributes, body in reader.scripts if not attributes)


def test_the_page_is_for_everybody(page: tuple[str, str]) -> None:
    """Language, title, headings of tables, and a text for each chart; dark, light and print have their styles."""
    text, _ = page
    reader = PageReader(text)

    assert ("html", "lang", "en") in reader.attributes
    labels = [value for tag, name, value in reader.attributes if (tag, name) == ("figure", "aria-label")]
    scrolled, named = (
        [one for one in reader.attributes if one[:2] == ("div", name)] for name in ("tabindex", "aria-label")
    )
    assert len(scrolled) == len(named) == text.count("<table>")
    assert len(labels) == 3
    assert text.count("<table>") == text.count("<caption>") > 5
    for rule in ("prefers-color-scheme: dark", "@media print", 'name="viewport"'):
        assert rule in text


def test_an_empty_period_is_a_page(server: ServerProcess, tmp_path: Path) -> None:
    """Without usage the page says so."""
    path = tmp_path / "page.html"
    arguments = ("--period", "2026-06", "--tenant", f"t-{new_record_id()}", "--html", str(path))
    CommandLine(server.client_environment)("billing", "summary", *arguments)

    text = path.read_text(encoding="utf-8")
    assert "No usage." in text
    assert "0.00 USD" in text


def test_a_page_that_cannot_be_written_says_so(server: ServerProcess, tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "absent" / "page.html"
    done = CommandLine(server.client_environment)("billing", "summary", "--html", str(path), status=1)

    assert f"cannot write {path}" in done.stderr


def row(card: str, name: str, quantity: int, cost_picos: int) -> ReportRow:
    """One class of one row of a card."""
    group: dict[str, Any] = {
        "rate_card_id": card,
        "rate_card_row": "r",
        "usage_class": name,
        "entry_kind": "usage",
    }
    return ReportRow(group, Measures(0, {name: quantity} if quantity else {}, Money("USD", cost_picos), 0))


def test_savings_compare_with_plain_input_of_the_same_row() -> None:
    """Reading saves, writing costs, and tokens without plain input beside them are not compared."""
    rows = [
        row("1", "input", 100, 1_500),
        row("1", "cache_read", 1_000, 1_500),
        row("1", "cache_write", 10, 190),
        row("1", "cache_write_1h", 10, 300),
        row("1", "output", 50, 3_750),
        row("2", "cache_read", 7, 70),
    ]

    assert savings(rows) == CacheSavings(
        input_tokens=100,
        read_tokens=1_007,
        write_tokens=20,
        saved_picos=(15_000 - 1_500) + (150 - 190) + (150 - 300),
        compared_tokens=1_020,
    )
    assert savings([]).share_permille == 0


@given(st.integers(-(10**20), 10**20))
def test_cents_are_rounded_half_to_even(picos: int) -> None:
    """Two decimals are those of decimal arithmetic."""
    exact = (Decimal(picos) / 10**12).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    plain = re.sub(",", "", _cents(picos)).replace("\N{MINUS SIGN}", "-")

    assert Decimal(plain) == exact
