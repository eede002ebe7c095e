# SPDX-License-Identifier: Apache-2.0
"""Pages: whole lists in pieces, with tokens that cannot be made up or used elsewhere."""

import pytest

from taximeter_server.errors import InvalidFieldsError, PageTokenError
from taximeter_server.pages import PAGE_SIZE_MAX, PageTokens, page_size_of

TOKENS = PageTokens(b"k" * 32)


def read_all(items: list[str], page_size: int) -> list[str]:
    """Read every page."""
    found: list[str] = []
    token = ""
    while True:
        page, token = TOKENS.page(items, cursor_of=str, binding="list", page_size=page_size, page_token=token)
        assert len(page) <= page_size
        found += page
        if not token:
            return found


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 10, 11])
@pytest.mark.parametrize("page_size", [1, 3, 10])
def test_pages_together_are_the_list(count: int, page_size: int) -> None:
    """Every item comes exactly once and in order."""
    items = [f"item-{number}" for number in range(count)]

    assert read_all(items, page_size) == items


def test_items_added_in_front_do_not_repeat_others() -> None:
    """A list that grows at its start while it is read shows no item twice."""
    first, token = TOKENS.page(["b", "c"], cursor_of=str, binding="list", page_size=1, page_token="")
    second, last = TOKENS.page(["a", "b", "c"], cursor_of=str, binding="list", page_size=9, page_token=token)

    assert (list(first), list(second), last) == (["b"], ["c"], "")


@pytest.mark.parametrize("forge", ["", "A", "!!", "é", "AAAA" * 10])
def test_made_up_token_is_refused(forge: str) -> None:
    """Only tokens that were given out are taken."""
    with pytest.raises(PageTokenError):
        TOKENS.open("list", forge or "====")


def test_token_is_bound_to_its_query_and_store() -> None:
    """A token works for no other query, and with no other store's key."""
    token = TOKENS.seal("list", "b")

    assert TOKENS.open("list", token) == "b"
    for tokens, binding in ((TOKENS, "other"), (PageTokens(b"x" * 32), "list")):
        with pytest.raises(PageTokenError):
            tokens.open(binding, token)
    with pytest.raises(PageTokenError):
        TOKENS.open("list", token[:-1] + ("A" if token[-1] != "A" else "B"))


def test_page_size_has_a_default_and_a_maximum() -> None:
    """0 means the default, too many means the maximum, and negative ones are refused."""
    assert [page_size_of(0), page_size_of(7), page_size_of(10**6)] == [100, 7, PAGE_SIZE_MAX]
    with pytest.raises(InvalidFieldsError):
        page_size_of(-1)
