# SPDX-License-Identifier: Apache-2.0
"""Price data of other packages becomes cards that a server takes and that price as the packages' numbers say."""

import importlib
import importlib.util
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cards.conftest import COMMAND_TIMEOUT_S, meter_of

from harness.command_line import CommandLine
from harness.server_process import ServerProcess, clean_environment
from taximeter import Meter, PricingState, Usage
from taximeter.rate_card_import_card import ImportedDataError, price_of
from taximeter.rate_card_import_data import IMPORTS, import_card
from taximeter_server._native import RateCard
from taximeter_server.rate_card import parse_rate_card

DATA = Path(__file__).parent.parent / "cases" / "price-data"
Case = tuple[str, str, dict[str, Any], Usage, str]
IN_FORCE_TIMEOUT_S = 20

WRITTEN = Usage(
    uncached_input_tokens=1_000,
    cache_read_tokens=10_000,
    cache_write_tokens=2_000,
    cache_write_1h_tokens=3_000,
    visible_output_tokens=500,
)
REASONED = Usage(
    uncached_input_tokens=1_000, cache_read_tokens=2_000, visible_output_tokens=300, reasoning_tokens=100
)
LONG = Usage(uncached_input_tokens=300_000, visible_output_tokens=1_000)


def prompt(tokens: int) -> Usage:
    """Return usage of a prompt alone."""
    return Usage(uncached_input_tokens=tokens)


def other(usage_class: str, quantity: int) -> Usage:
    """Return usage of one further class."""
    return Usage(other={usage_class: quantity})


# Provider, model, circumstances, usage, USD: by hand from the published numbers.
LITELLM: list[Case] = [
    ("openai", "gpt-5", {}, REASONED, "0.0055"),
    ("", "gpt-5", {"tier": "priority"}, REASONED, "0.011"),
    ("openai", "gpt-5", {"tier": "batch"}, REASONED, "0.00275"),
    ("openai", "gpt-5", {}, other("web_searches", 2), "0.02"),
    ("openai", "gpt-5.5", {}, LONG, "3.045"),
    ("openai", "gpt-5.5", {"tier": "batch"}, LONG, "1.5225"),
    ("openai", "gpt-5.5", {}, prompt(272_000), "1.36"),
    ("anthropic", "claude-sonnet-4-5", {}, WRITTEN, "0.039"),
    ("anthropic", "claude-haiku-5-5", {}, prompt(100_000), "0.01"),
    ("anthropic", "claude-haiku-5-5", {}, prompt(100_001), "0.0500005"),
    ("anthropic", "claude-opus-4-7", {"region": "us"}, prompt(1_000), "0.0055"),
    ("vertex_ai", "gemini-2.5-flash", {}, other("input_audio", 1_000), "0.001"),
    ("vertex_ai", "gemini-2.5-flash", {}, other("cache_read_audio", 1_000), "0.0001"),
    ("gemini", "gemini-3.1-flash-lite-preview", {"tier": "flex"}, Usage(reasoning_tokens=1_000), "0.00075"),
    ("bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", {}, prompt(1_000), "0.001"),
    ("openai", "whisper-1", {}, other("audio_ms", 90_000), "0.009"),
    ("cohere", "rerank-v3.5", {}, other("rerank_units", 3), "0.006"),
    ("xai", "grok-4.20-0309-reasoning", {}, prompt(199_999), "0.24999875"),
    ("xai", "grok-4.20-0309-reasoning", {}, prompt(200_000), "0.5"),
    ("mistral", "mistral-ocr-latest", {}, other("pages", 10), "0.04"),
    ("mistral", "mistral-ocr-latest", {"tier": "batch"}, other("annotated_pages", 10), "0.025"),
    ("openai", "text-embedding-3-small", {}, prompt(1_000), "0.00002"),
    ("dashscope", "qwen-flash", {}, prompt(256_000), "0.0128"),
    ("dashscope", "qwen-flash", {}, prompt(256_001), "0.06400025"),
]
GENAI_PRICES: list[Case] = [
    ("openai", "gpt-5", {}, REASONED, "0.0055"),
    ("", "gpt-5", {}, REASONED, "0.0055"),
    ("openai", "gpt-5", {}, other("file_searches", 2), "0.005"),
    ("openai", "gpt-5.5", {}, LONG, "3.045"),
    ("openai", "gpt-5.5", {"tier": "default"}, prompt(272_000), "1.36"),
    ("openai", "o3", {}, prompt(1_000), "0.002"),
    ("anthropic", "claude-sonnet-4-5", {}, WRITTEN, "0.039"),
    ("anthropic", "claude-sonnet-4-5-20250929", {}, prompt(200_001), "1.200006"),
    ("anthropic", "claude-haiku-5-5", {}, prompt(100_001), "0.0500005"),
    ("anthropic", "claude-fable-5-2", {"tier": "batch"}, WRITTEN, "0.049"),
    ("google", "gemini-2.5-pro", {}, prompt(200_001), "0.5000025"),
    ("google", "gemini-2.5-flash", {}, other("input_audio", 1_000), "0.001"),
    ("groq", "whisper-large-v3", {}, other("audio_ms", 3_600_000), "0.111"),
    ("groq", "whisper-large-v3", {}, other("audio_ms", 1_000), "0.000308333333"),
    ("perplexity", "sonar", {}, other("requests", 1), "0.012"),
    ("deepseek", "deepseek-v3.2", {}, prompt(1_000), "0.0002288"),
]
CASES = {"litellm": LITELLM, "genai-prices": GENAI_PRICES}


@pytest.fixture(scope="module", params=sorted(CASES))
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Meter]]:
    """A server whose card in force was imported, validated and published by the command line."""
    package = request.param
    directory = tmp_path_factory.mktemp(package)
    with ServerProcess(directory / "data") as server, meter_of(server) as meter:
        taximeter = CommandLine(clean_environment(server.client_environment), timeout_s=COMMAND_TIMEOUT_S)
        card = directory / "card.yaml"
        done = taximeter(
            *("rate-card", "import", package, "--data", str(DATA / f"{package}.json")),
            *("--output-file", str(card)),
        )
        assert not done.stdout
        assert done.stderr.startswith(f"{package} {package}.json (SHA-256 ")
        taximeter("rate-card", "validate", str(card))
        taximeter("rate-card", "publish", str(card))
        entry = next(iter(meter.list_rate_cards()))
        deadline = time.monotonic() + IN_FORCE_TIMEOUT_S
        while meter.get_rate_card().entry.rate_card_id != entry.rate_card_id:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield package, meter


def test_a_server_charges_what_the_package_publishes(imported: tuple[str, Meter], tenant: str) -> None:
    """Base prices, caches, contexts, tiers, regions, media and tools cost exactly the published numbers."""
    package, meter = imported
    found = [
        (provider, model, circumstances, recorded.cost.amount, recorded.pricing_state)
        for provider, model, circumstances, usage, _ in CASES[package]
        for recorded in [meter.record(tenant, usage, model=model, provider=provider, **circumstances)]
    ]
    assert found == [
        (provider, model, circumstances, Decimal(usd), PricingState.PRICED)
        for provider, model, circumstances, _, usd in CASES[package]
    ]


def compiled(package: str) -> RateCard:
    """Return the card of an excerpt."""
    text = import_card(package, DATA / f"{package}.json").yaml_text()
    return RateCard(parse_rate_card(text).canonical_json)


def unit_price(
    card: RateCard, model: str, provider: str, time_text: str, usage_class: str = "input"
) -> object:
    """Return what a million tokens cost then."""
    nanos = int(datetime.fromisoformat(time_text).replace(tzinfo=UTC).timestamp()) * 10**9
    found = card.price(model=model, provider=provider, usage={usage_class: 1}, occur_time_nanos=nanos)
    return found.lines[0].unit_price


@pytest.mark.parametrize(
    ("package", "model", "time_text", "expected"),
    [
        ("litellm", "deepseek-flash", "2026-11-22T02:00", "0.15"),  # A Sunday.
        ("litellm", "deepseek-flash", "2026-11-23T02:00", "0.3"),
        ("litellm", "deepseek-flash", "2026-11-23T05:00", "0.15"),
        ("litellm", "deepseek-flash", "2026-11-23T23:59", "0.15"),
        ("genai-prices", "deepseek-chat", "2025-05-01T00:29", "0.135"),
        ("genai-prices", "deepseek-chat", "2025-05-01T00:30", "0.27"),
        ("genai-prices", "deepseek-flash", "2026-11-22T03:59", "0.3"),
        ("genai-prices", "deepseek-flash", "2026-11-22T04:00", "0.15"),
        ("genai-prices", "deepseek-v4-flash", "2026-08-16T12:00", "0.14"),
        ("genai-prices", "deepseek-v4-flash", "2026-08-17T12:00", "0.22"),
    ],
)
def test_prices_of_hours_and_dates_hold_when_they_should(
    package: str, model: str, time_text: str, expected: str
) -> None:
    """Off-peak hours, days of the week and the days on which prices began are those of the data."""
    assert unit_price(compiled(package), model, "deepseek", time_text) == expected


def test_a_model_without_a_price_stays_unpriced() -> None:
    """An empty row keeps another provider's price away from a model that the data has no price for."""
    card = compiled("genai-prices")
    assert unit_price(card, "gpt-4.1", "openai", "2026-11-22T00:00") == "2"
    found = card.price(
        model="gpt-4.1", provider="github-copilot", usage={"input": 1}, occur_time_nanos=10**18
    )
    assert found.row == "github-copilot/gpt-4.1"
    assert found.lines[0].unpriced


@pytest.mark.parametrize(
    ("package", "line", "reason"),
    [
        (
            "litellm",
            "# without a home: output_cost_per_video_per_second 0.05: ",
            "no class for seconds of video",
        ),
        (
            "litellm",
            "# without a home: input_dbu_cost_per_token 0.000001429: ",
            "a price in another unit than money",
        ),
        (
            "litellm",
            "# without a home: google_maps_grounding_cost_per_query 0.025: ",
            "searches of this kind",
        ),
        (
            "genai-prices",
            "# without a home: variant {'route': 'mistral/eu'}: ",
            "no condition for this choice",
        ),
        ("genai-prices", "# without a home: github-copilot/gpt-4.1: ", "no price that a card can have"),
    ],
)
def test_what_a_card_cannot_say_is_listed(package: str, line: str, reason: str) -> None:
    """It stands before its row, and its reason is counted."""
    card = import_card(package, DATA / f"{package}.json")
    (found,) = {text for text in card.yaml_text().splitlines() if line in text}
    assert found.endswith(reason)
    assert any(text.endswith(reason) for text in card.summary()[1:])


def test_rows_say_where_they_are_from() -> None:
    """Package, data, key and link stand in comments; other providers can be left out."""
    card = import_card("litellm", DATA / "litellm.json", ("openai",))
    lines = card.yaml_text().splitlines()
    assert lines[0].startswith("# Imported from litellm litellm.json (SHA-256 ")
    at = lines.index('    "openai/whisper-1": {aliases: ["whisper-1"], audio_ms: 0.36}')
    assert lines[at - 1] == "    # whisper-1 https://developers.openai.com/api/docs/pricing"
    assert {row.name.split("/")[0] for row in card.written_rows} == {"openai"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.5E-8"), "0.015"),
        (Decimal("1.8750000000000002E-7"), "{price: 18750.000000000002, per: 100000000000}"),
        (0, "0"),
        (Decimal(-1), "not a price, but negative or not finite"),
        (Decimal("NaN"), "not a price, but negative or not finite"),
        (True, "not a number"),
        (Decimal(10), "a price beyond what a card can have"),
    ],
)
def test_prices_are_taken_over_digit_for_digit(value: Any, expected: str) -> None:
    """A price has all digits of the data, for more units where a card has too few decimals; or there is none."""
    found = price_of(value, "input", 1_000_000)
    assert str(found) == expected


@pytest.mark.parametrize("package", sorted(IMPORTS))
@pytest.mark.parametrize(
    "content",
    ["", "[", "1", '"a"', "[1]", '{"a": 1}', '[{"models": [{}]}]', '[{"models": 1}]', "[" * 100_000],
)
def test_data_of_another_shape_is_an_error(tmp_path: Path, package: str, content: str) -> None:
    """Whatever the file holds, the answer is a message."""
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(ImportedDataError):
        import_card(package, path)


def test_a_package_that_is_not_there_is_named(taximeter: CommandLine) -> None:
    """The message says what to install, or which option to use."""
    if importlib.util.find_spec("litellm") is not None:
        pytest.skip("litellm is installed")
    done = taximeter("rate-card", "import", "litellm", status=1)
    assert "litellm is not installed" in done.stderr
    assert "--data" in done.stderr


def test_installed_genai_prices_agrees_with_its_own_calculation() -> None:
    """Each model of the installed package costs by the card what the package says."""
    genai_prices = pytest.importorskip("genai_prices")
    providers = importlib.import_module("genai_prices.data").providers
    text = import_card("genai-prices").yaml_text()
    card = RateCard(parse_rate_card(text).canonical_json)
    at = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
    usage = {"input": 250_001, "cache_read": 7, "cache_write": 11, "output": 501}
    raw = genai_prices.Usage(
        input_tokens=250_019, cache_read_tokens=7, cache_write_tokens=11, output_tokens=501
    )
    compared = 0
    for provider in providers:
        for model in provider.models:
            found = card.price(
                model=model.id,
                provider=provider.id,
                usage=usage | {"requests": 1},
                occur_time_nanos=int(at.timestamp()) * 10**9,
            )
            expected = model.calc_price(raw, provider, genai_request_timestamp=at).total_price
            assert abs(Fraction(found.cost_picos) - Fraction(expected) * 10**12) <= len(usage), model.id
            compared += 1
    assert compared > 2_000
