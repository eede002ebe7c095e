# SPDX-License-Identifier: Apache-2.0
"""What providers report becomes disjoint classes, or an error that names the field."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter_server._native import UsageError, normalise_usage

CASES = Path(__file__).parents[1] / "cases"
GOLDEN = json.loads((CASES / "usage-normalisation-cases.json").read_text())["cases"]
OWN = yaml.safe_load((CASES / "provider-usage.yaml").read_text())
PROMPT = ("input", "cache_read", "cache_write", "input_audio", "input_image", "input_video")
ANSWER = ("output", "reasoning", "citation")
COUNT_MAX = 10_000_000_000

nine_counts = st.lists(st.integers(0, 10_000), min_size=9, max_size=9)


def normalised(provider: str, api: str, usage: object) -> dict[str, Any]:
    """Normalise usage that is not text yet."""
    found = normalise_usage(provider=provider, api=api, usage_json=json.dumps(usage))
    return cast("dict[str, Any]", found)


def totals(classes: dict[str, int]) -> tuple[int, int]:
    """Return the tokens of the prompt and of the answer."""

    def of(names: tuple[str, ...]) -> int:
        return sum(count for name, count in classes.items() if name.startswith(names))

    return of(PROMPT), of(ANSWER)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_golden_cases(case: dict[str, Any]) -> None:
    """Every published case gives its classes and flags, and adds up to what the provider counted."""
    found = normalised(case["provider"], case["api"], case["usage"])

    assert found["classes"] == case["expected"]
    assert found["flags"] == case["flags"]
    assert totals(found["classes"]) == (case["checks"]["prompt_tokens"], case["checks"]["output_tokens"])


@pytest.mark.parametrize("case", OWN["accepted"], ids=lambda case: case["id"])
def test_every_shape(case: dict[str, Any]) -> None:
    """The edges of each provider's shape give classes, and say what was served."""
    found = normalised(case["provider"], case["api"], case["usage"])

    expected = {"classes": {}, "calls": 1, "tier": "", "region": "", "speed": "", "flags": []}
    assert found == expected | {name: case[name] for name in expected if name in case}


@pytest.mark.parametrize("case", OWN["refused"], ids=lambda case: case["id"])
def test_contradictions_are_refused(case: dict[str, Any]) -> None:
    """Numbers that cannot all be true are an error at the one that is too large, never a guess."""
    with pytest.raises(UsageError) as caught:
        normalised(case["provider"], case["api"], case["usage"])

    assert caught.value.args[0] == case["field"]


@pytest.mark.parametrize(("text", "field"), OWN["refused_texts"])
def test_what_is_no_usage_is_refused(text: str, field: str) -> None:
    """Text that is no JSON, no object, or has a key twice or a count that is no integer, is an error at its place."""
    with pytest.raises(UsageError) as caught:
        normalise_usage(provider="openai", api="chat.completions", usage_json=text)

    assert caught.value.args[0] == field


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ('{"a":' * 16 + "1" + "}" * 16, "nested too deeply"),
        ("[" * 5_000, "nested too deeply"),
        ("{" + ",".join(f'"{n}":1' for n in range(257)) + "}", "more than 256 members"),
        ('{"a":"' + "x" * 16_384 + '"}', "at most 16,384 bytes"),
    ],
    ids=["deep", "very deep", "wide", "large"],
)
def test_size_is_bounded(text: str, description: str) -> None:
    """JSON that would take long to read is refused early."""
    with pytest.raises(UsageError) as caught:
        normalise_usage(provider="openai", api="chat.completions", usage_json=text)

    assert caught.value.args[1] == description


@pytest.mark.parametrize(
    ("provider", "api", "field"),
    [
        ("nobody", "chat.completions", "provider"),
        ("openai", "telepathy", "api"),
        ("openai", "converse", "api"),
        ("anthropic", "generateContent", "api"),
        ("otel", "chat.completions", "api"),
        ("openai" * 20, "chat.completions", "provider"),
    ],
)
def test_unknown_names_are_refused(provider: str, api: str, field: str) -> None:
    """What an API counts is never guessed from another one's."""
    with pytest.raises(UsageError) as caught:
        normalised(provider, api, {"prompt_tokens": 1, "completion_tokens": 1})

    assert caught.value.args[0] == field


@settings(max_examples=300)
@given(nine_counts)
def test_openai_sums_are_preserved(parts: list[int]) -> None:
    """Whatever an OpenAI-shaped answer says, every token of it is in exactly one class."""
    text, cached, written, audio, image, visible, reasoning, said, drawn = parts
    prompt, answer = text + cached + written + audio + image, visible + reasoning + said + drawn
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "audio_tokens": audio,
            "image_tokens": image,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": said,
            "image_tokens": drawn,
        },
    }
    expected = {
        "input": text,
        "cache_read": cached,
        "cache_write": written,
        "input_audio": audio,
        "input_image": image,
        "output": visible,
        "reasoning": reasoning,
        "output_audio": said,
        "output_image": drawn,
    }

    found = normalised("openai", "chat.completions", usage)

    assert found["classes"] == {name: count for name, count in expected.items() if count}
    assert (totals(found["classes"]), found["flags"]) == ((prompt, answer), [])


@settings(max_examples=300)
@given(nine_counts)
def test_gemini_sums_are_preserved(parts: list[int]) -> None:
    """Whatever Gemini counts by modality, prompt, tools, answer and thoughts add up to the classes."""
    text, audio, image, cached_text, cached_audio, tools, said, drawn, thoughts = parts
    prompt, cached = text + audio + image + cached_text + cached_audio, cached_text + cached_audio

    def split(**modalities: int) -> list[dict[str, object]]:
        return [{"modality": name.upper(), "tokenCount": count} for name, count in modalities.items()]

    usage = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": said + drawn,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + tools + said + drawn + thoughts,
        "promptTokensDetails": split(text=text + cached_text, audio=audio + cached_audio, image=image),
        "cacheTokensDetails": split(text=cached_text, audio=cached_audio),
        "candidatesTokensDetails": split(text=said, image=drawn),
    }

    found = normalised("gcp.gemini", "generateContent", usage)

    assert totals(found["classes"]) == (prompt + tools, said + drawn + thoughts)
    assert found["classes"].get("cache_read", 0) + found["classes"].get("cache_read_audio", 0) == cached
    assert found["flags"] == []


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]),
        st.none() | st.integers(-5, COUNT_MAX + 5) | st.sampled_from(["", "7"]),
    ),
    st.dictionaries(
        st.sampled_from(
            ["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens"]
        ),
        st.integers(-1, 50),
    ),
)
def test_no_number_makes_tokens(usage: dict[str, object], details: dict[str, int]) -> None:
    """Any numbers at all are refused, or give positive classes that add up to the prompt."""
    try:
        found = normalised("openrouter", "chat", usage | {"prompt_tokens_details": details})
    except UsageError:
        return

    assert all(0 < count <= COUNT_MAX for count in found["classes"].values())
    assert totals(found["classes"])[0] == usage["prompt_tokens"]
