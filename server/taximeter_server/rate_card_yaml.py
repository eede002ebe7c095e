# SPDX-License-Identifier: Apache-2.0
"""YAML as rate cards use it: mappings, lists and text, each with its place in the file.

Scalars stay the text that they are in the file: nothing becomes a float, a date, a boolean or a sexagesimal number.
Aliases, tags, tabs, a second document and duplicate keys are problems. What no parser should see is refused here; the
rest is read by ``native/src/card_yaml.rs``.
"""

import re
from typing import TypeAlias

from taximeter_server._native import MappingNode, Mark, RefusedNode, Scalar, SequenceNode, read_card_yaml
from taximeter_server.rate_card_problems import WHOLE_FILE, ProblemList
from taximeter_server.rate_card_values import DECIMAL_RULE

BYTES_MAX = 1_048_576

_BYTE_ORDER_MARK = "\ufeff"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Tabs, NUL and other controls, separators that not every reader takes for the end of a line, surrogates.
_REFUSED_CHARACTER = re.compile(
    "[^\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_ACCEPTED_ASCII = b"\n\r" + bytes(range(0x20, 0x7F))
# So many digits in a row are no price, quantity, date or name.
_LONG_NUMBER = re.compile(r"[0-9]{65}")
_LONG_NUMBER_BYTES = re.compile(rb"[0-9]{65}")

Node: TypeAlias = Scalar | MappingNode | SequenceNode | RefusedNode


def parse_yaml(source: str | bytes, problems: ProblemList) -> Node | None:
    """Return the one document, None when the file is empty.

    Raises TooManyProblemsError after noting a problem that makes the rest unreadable.
    """
    return read_card_yaml(_decode(source, problems), problems)


def _decode(source: str | bytes, problems: ProblemList) -> str:
    _refuse_long_number(source, problems)
    is_larger = len(source) > BYTES_MAX
    if not is_larger and isinstance(source, str):
        is_larger = len(source.encode("utf-8", "replace")) > BYTES_MAX
    if is_larger:
        raise problems.stop(WHOLE_FILE, "", "YAML_SIZE", f"the file is larger than {BYTES_MAX} bytes")
    if isinstance(source, bytes):
        if source.startswith(_UTF_16_MARKS):
            raise problems.stop(Mark(1, 1), "", "YAML_ENCODING", "the file must be UTF-8, and is UTF-16")
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError as error:
            mark = _mark_at(source[: error.start].decode("utf-8"), error.start)
            raise problems.stop(mark, "", "YAML_ENCODING", "the file must be UTF-8") from None
    else:
        text = source
    if text.isascii() and not text.encode().translate(None, _ACCEPTED_ASCII):
        return text
    text = text.removeprefix(_BYTE_ORDER_MARK)
    refused = _REFUSED_CHARACTER.search(text)
    if refused is not None:
        mark = _mark_at(text, refused.start())
        if refused[0] == "\t":
            raise problems.stop(mark, "", "YAML_TAB", "tabs are not accepted: use spaces")
        message = f"the character U+{ord(refused[0]):04X} is not accepted"
        raise problems.stop(mark, "", "YAML_CHARACTER", message)
    return text


def _refuse_long_number(source: str | bytes, problems: ProblemList) -> None:
    """Refuse before all else what only a mistake or an attack can be; reading it would cost by its length."""
    start = source[:BYTES_MAX]
    run = _LONG_NUMBER_BYTES.search(start) if isinstance(start, bytes) else _LONG_NUMBER.search(start)
    if run is None:
        return
    before = start[: run.start()]
    text = before.decode("utf-8", "replace") if isinstance(before, bytes) else before
    message = f"must be a {DECIMAL_RULE}"
    raise problems.stop(_mark_at(text, len(text)), "", "DECIMAL_INVALID", message)


def _mark_at(text: str, offset: int) -> Mark:
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
