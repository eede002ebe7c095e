# SPDX-License-Identifier: Apache-2.0
"""YAML as rate cards use it: mappings, lists and text, each with its place in the file.

Scalars stay the text that they are in the file: nothing becomes a float, a date, a boolean or a sexagesimal number.
Aliases, tags, tabs, a second document and duplicate keys are problems. The parser's events are read one by one and
reading stops at the first limit, so no file costs more than reading it once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from taximeter_server.rate_card_problems import WHOLE_FILE, Mark, ProblemList, path_part, shown
from taximeter_server.rate_card_values import DECIMAL_RULE

BYTES_MAX = 1_048_576
DEPTH_MAX = 32
RULES_MAX = 10_000
"""Rows and entries of ``when`` together; also the entries of any one mapping or list."""

ROOT_KEY = "billing"
"""The one key at the top. Paths leave it out."""

_BYTE_ORDER_MARK = "\ufeff"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Tabs, NUL and other controls, separators that not every reader takes for the end of a line, surrogates.
_REFUSED_CHARACTER = re.compile(
    "[^\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
# So many digits in a row are no price, quantity, date or name.
_LONG_NUMBER = re.compile(r"[0-9]{65}")
_LONG_NUMBER_BYTES = re.compile(rb"[0-9]{65}")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text. plain: not in quotes."""

    text: str
    plain: bool
    mark: Mark

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys and values in the order of the file, without the repetitions of a key."""

    mark: Mark
    entries: dict[str, tuple[Scalar, "Node"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    mark: Mark
    items: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RefusedNode:
    """Stands for an alias or a tagged value, which has been noted as a problem."""

    mark: Mark


Node: TypeAlias = Scalar | MappingNode | SequenceNode | RefusedNode


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read. key: key whose value is next; None when a key is."""

    node: MappingNode | SequenceNode
    path: str
    is_rules: bool
    key: Scalar | None = None
    length: int = 0


def parse_yaml(source: str | bytes, problems: ProblemList) -> Node | None:
    """Return the one document, None when the file is empty.

    Raises TooManyProblemsError after noting a problem that makes the rest unreadable.
    """
    builder = _Builder(problems)
    for event in _events(_decode(source, problems), problems):
        builder.take(event)
    return builder.root


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


def _events(text: str, problems: ProblemList) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(at.line + 1, at.column + 1) if at else WHOLE_FILE
        raise problems.stop(mark, "", "YAML_SYNTAX", f"not valid YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise problems.stop(WHOLE_FILE, "", "YAML_SYNTAX", "not valid YAML") from None


class _Builder:
    """Builds nodes from events."""

    def __init__(self, problems: ProblemList) -> None:
        self.root: Node | None = None
        self._problems = problems
        self._open: list[_Open] = []
        self._documents = 0
        self._rules = 0

    def take(self, event: yaml.Event) -> None:
        """Add one event."""
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in (None, "")
            self._add(self._untagged(event) or Scalar(event.value, plain=plain, mark=_mark(event)), event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.AliasEvent):
            message = "aliases are not accepted: repeat the value"
            self._problems.add(_mark(event), self._path(), "YAML_ALIAS", message)
            self._add(RefusedNode(_mark(event)), event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._problems.stop(_mark(event), "", "YAML_DOCUMENTS", "one file holds one rate card")

    def _untagged(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> RefusedNode | None:
        """Note an anchor or tag; something tagged is not what it looks like, so nothing is made of it."""
        if event.anchor is not None:
            message = "anchors and aliases are not accepted: repeat the value"
            self._problems.add(_mark(event), self._path(), "YAML_ALIAS", message)
        if event.tag is not None:
            self._problems.add(_mark(event), self._path(), "YAML_TAG", "tags are not accepted")
            return RefusedNode(_mark(event))
        return None

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._untagged(event)
        mark = _mark(event)
        if len(self._open) >= DEPTH_MAX:
            message = f"nested deeper than {DEPTH_MAX} levels"
            raise self._problems.stop(mark, self._path(), "YAML_DEPTH", message)
        path = self._path()
        node = MappingNode(mark) if isinstance(event, yaml.MappingStartEvent) else SequenceNode(mark)
        self._add(node, event)
        is_rules = path.endswith(".when") if isinstance(node, SequenceNode) else path == "rate_card"
        self._open.append(_Open(node, path, is_rules))

    def _add(self, node: Node, event: yaml.Event) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.node, SequenceNode):
            self._count(parent, node.mark)
            parent.node.items.append(node)
        elif parent.key is None:
            self._count(parent, node.mark)
            if not isinstance(node, Scalar):
                if not isinstance(node, RefusedNode):
                    self._problems.add(node.mark, parent.path, "YAML_KEY", "a key must be text")
                node = Scalar("", plain=False, mark=_mark(event))
            parent.key = node
        else:
            key, parent.key = parent.key, None
            first = parent.node.entries.get(key.text)
            if first is None:
                parent.node.entries[key.text] = (key, node)
            else:
                message = f"duplicate key: {shown(key.text)} stands in line {first[0].mark.line} already"
                self._problems.add(key.mark, join_path(parent.path, key.text), "YAML_DUPLICATE_KEY", message)

    def _count(self, parent: _Open, mark: Mark) -> None:
        parent.length += 1
        self._rules += parent.is_rules
        if parent.length > RULES_MAX or self._rules > RULES_MAX:
            message = f"more than {RULES_MAX} rules: rows and entries of when"
            raise self._problems.stop(mark, parent.path, "YAML_RULES", message)

    def _path(self) -> str:
        """Path of the node that comes next."""
        if not self._open:
            return ""
        parent = self._open[-1]
        if isinstance(parent.node, SequenceNode):
            return f"{parent.path}[{parent.length}]"
        return parent.path if parent.key is None else join_path(parent.path, parent.key.text)


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start is not None else WHOLE_FILE


def join_path(path: str, key: str) -> str:
    """Return the path of a key below path."""
    if not path:
        return "" if key == ROOT_KEY else path_part(key)
    return f"{path}.{path_part(key)}"
