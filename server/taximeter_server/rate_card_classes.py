# SPDX-License-Identifier: Apache-2.0
"""Usage classes that a rate card declares: ``classes: {gpu_ms: {per: 3600000}, citation: {parent: input}}``."""

from collections.abc import Mapping

from taximeter_server._native import MappingNode, Scalar, join_path, shown
from taximeter_server.rate_card_problems import suggestion
from taximeter_server.rate_card_reader import Json, Reader
from taximeter_server.rate_card_rows import ROW_WORDS
from taximeter_server.rate_card_values import CLASS_NAME
from taximeter_server.rate_card_yaml import Node
from taximeter_server.usage_class import BUILT_IN_CLASSES, UsageClass

CLASSES_MAX = 64

_Parents = dict[str, str | None]


def read_classes(reader: Reader, node: Node) -> dict[str, UsageClass]:
    """Return the built-in classes and those that the card declares."""
    if not isinstance(node, MappingNode):
        reader.wrong_shape(node, "classes", "a mapping of classes")
        return BUILT_IN_CLASSES
    if len(node.entries) > CLASSES_MAX:
        reader.problems.add(node.mark, "classes", "LIMIT_EXCEEDED", f"at most {CLASSES_MAX} classes")
        return BUILT_IN_CLASSES
    parents: _Parents = {}
    pers: dict[str, int] = {}
    for name, (key, value) in node.entries.items():
        _check_name(reader, key)
        path = join_path("classes", name)
        fields = reader.fields(value, path, ("per", "parent"))
        parents[name] = _read_parent(reader, fields, path, node)
        if "parent" in fields and parents[name] is None:
            pers[name] = 1  # A wrong parent is noted; that per is missing too would only follow from it.
        if "per" in fields:
            pers[name] = reader.integer(fields["per"][1], join_path(path, "per"), minimum=1) or 1
    for key, _ in node.entries.values():
        _check_descent(reader, key, parents, pers)
    declared = {name: UsageClass(_inherited_per(name, parents, pers) or 1, parents[name]) for name in parents}
    return {**declared, **BUILT_IN_CLASSES}


def canonical_classes(classes: Mapping[str, UsageClass]) -> dict[str, Json]:
    """Return the canonical form of the classes that are not built in."""
    declared = {name: found for name, found in classes.items() if name not in BUILT_IN_CLASSES}
    return {
        name: {"per": found.per} if found.parent is None else {"per": found.per, "parent": found.parent}
        for name, found in declared.items()
    }


def _check_name(reader: Reader, key: Scalar) -> None:
    path = join_path("classes", key.text)
    if key.text in BUILT_IN_CLASSES or key.text in ROW_WORDS:
        reader.problems.add(key.mark, path, "CLASS_NAME_INVALID", f"{shown(key.text)} has a meaning already")
    elif not CLASS_NAME.fullmatch(key.text):
        message = "a class name has 1 to 64 lower-case letters, digits and _, and begins with a letter"
        reader.problems.add(key.mark, path, "CLASS_NAME_INVALID", message)


def _read_parent(
    reader: Reader, fields: Mapping[str, tuple[Scalar, Node]], path: str, declared: MappingNode
) -> str | None:
    if "parent" not in fields:
        return None
    below = join_path(path, "parent")
    found = reader.text(fields["parent"][1], below, "a class")
    known = (*BUILT_IN_CLASSES, *declared.entries)
    if found is None:
        return None
    if found.text in known:
        return found.text
    message = f"unknown class {shown(found.text)}{suggestion(found.text, known)}"
    reader.problems.add(found.mark, below, "UNKNOWN_CLASS", message)
    return None


def _check_descent(reader: Reader, key: Scalar, parents: _Parents, pers: Mapping[str, int]) -> None:
    path = join_path("classes", key.text)
    seen = {key.text}
    at = parents[key.text]
    while at is not None and at not in seen:
        seen.add(at)
        at = parents.get(at)
    if at is not None:
        reader.problems.add(key.mark, path, "CLASS_CIRCULAR", "parent: the class would fall back to itself")
        # Cut, so that it is noted once and following parents comes to an end.
        parents[key.text] = None
    elif parents[key.text] is None and key.text not in pers:
        reader.problems.add(key.mark, join_path(path, "per"), "FIELD_REQUIRED", "required: per, or a parent")


def _inherited_per(name: str, parents: _Parents, pers: Mapping[str, int]) -> int | None:
    """Return the units that a plain price of the class covers: its own, or those of the nearest parent with any."""
    at: str | None = name
    while at is not None:
        if at in pers:
            return pers[at]
        if at in BUILT_IN_CLASSES:
            return BUILT_IN_CLASSES[at].per
        at = parents.get(at)
    return None
