"""msgspec's refusals as an exact JSON path and a reason in plain words; only ever run after a failure.

msgspec says neither the key of a map (`$.rdma[...]`) nor the value that it refused, and it knows one form of
"absent". So what it refused is gone through again as plain objects.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pyruntime.spec.fields import MAPS
from pyruntime.spec.refusal import Refused, entry, quote

T = TypeVar("T")

# Strings that Go's encoder leaves out when they are empty, so that an empty one means absent.
_EMPTY_IS_ABSENT = frozenset((
    "access", "apparmorProfile", "cgroupsPath", "closID", "commandLine", "cpus", "cwd", "destination", "domainname", "final",
    "hostname", "initial", "l3CacheSchema", "listenerMetadata", "listenerPath", "memBwSchema", "mems", "mountLabel",
    "name", "nodes", "path", "rootfsPropagation", "selinuxLabel", "source", "type", "username"))

_WORDS = {"int": "an integer", "str": "a string", "bool": "true or false", "array": "an array", "object": "an object"}

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?P<is_key>`key` in )?`\$(?P<steps>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<field>\w+)|\[(?P<index>\d+|\.\.\.)\]")
_EXPECTED = re.compile(r"Expected `(?P<type>\w+)(?: \| null)?`(?:, got `.*`)?$")
_BOUND = re.compile(r"Expected `int` (?P<relation>[<>]=) (?P<bound>-?\d+)$")
_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`$")


class _Unknown(enum.Enum):
    KEY = "a key of a map that msgspec does not name"


Step = str | int | _Unknown


def convert_tolerantly(tree: object, to: type[T]) -> T:
    """Convert plain objects, taking null and Go's empty strings for absent, and a required field that is missing for the one that is there in
    other letters' case, as Go does; Refused says where and why not."""
    plain = without_absent(tree)
    while True:
        try:
            return msgspec.convert(plain, to)
        except msgspec.ValidationError as error:
            plain = _with_required(plain, to, str(error))


def _with_required(tree: object, to: type, message: str) -> object:
    """The tree with the field that is missing. Raises Refused if it is not there, or if something else is wrong."""
    found = _place_of(message)
    missing = _MISSING.match(found["what"])
    if missing:
        steps = _steps_of(found)
        _, value = _locate(tree, to, steps, message)
        renamed = _with_field(value, missing["field"])
        if renamed is not value and steps and isinstance(steps[-1], int):
            # who writes it so in one entry does in the others
            _, entries = _locate(tree, to, steps[:-1], message)
            assert isinstance(entries, list)
            return _replaced(tree, steps[:-1], [_with_field(each, missing["field"]) for each in entries])
        if renamed is not value:
            return _replaced(tree, steps, renamed)
    raise _refusal(tree, to, message)


def _with_field(value: object, field: str) -> object:
    """The same object unless it lacks the field and has just one that is it in other letters."""
    if not isinstance(value, dict) or field in value:
        return value
    given = [name for name in value if name.lower() == field.lower()]
    return value if len(given) != 1 else {field if name == given[0] else name: inner for name, inner in value.items()}


def without_absent(tree: object, is_map: bool = False) -> object:
    """A copy of lists and dicts without the fields that count as absent."""
    if isinstance(tree, Mapping):
        return {key: without_absent(value, not is_map and key in MAPS) for key, value in tree.items()
                if is_map or not (value is None or value == "" and key in _EMPTY_IS_ABSENT)}
    if isinstance(tree, list | tuple):
        return [without_absent(value) for value in tree]
    return tree


def _refusal(tree: object, to: type, message: str) -> Refused:
    found = _place_of(message)
    steps = _steps_of(found)
    path, value = _locate(tree, to, steps, message)
    what = found["what"]
    if missing := _MISSING.match(what):
        return Refused(f"{path}.{missing['field']}", "is required, but missing or empty")
    if found["is_key"]:
        return Refused(path, f"the key {_shortcoming(what, steps[-1], _key_type(_type_at(to, steps[:-1])))}")
    return Refused(path, _shortcoming(what, value, _type_at(to, steps)))


def _place_of(message: str) -> re.Match[str]:
    found = _PLACE.match(message)
    assert found is not None
    return found


def _steps_of(found: re.Match[str]) -> list[Step]:
    steps: list[Step] = [_step(step) for step in _STEP.finditer(found["steps"] or "")]
    if found["is_key"]:
        steps.append(_Unknown.KEY)
    return steps


def _step(step: re.Match[str]) -> Step:
    if step["field"]:
        return step["field"]
    return _Unknown.KEY if step["index"] == "..." else int(step["index"])


def _shortcoming(what: str, value: object, allowed: object) -> str:
    if expected := _EXPECTED.match(what):
        return f"expected {_WORDS.get(expected['type'], expected['type'])}, got {quote(value)}"
    if bound := _BOUND.match(what):
        return f"is {quote(value)}, but must be at {'most' if bound['relation'] == '<=' else 'least'} {bound['bound']}"
    if "of length >= 1" in what:
        return "must not be empty"
    if what.startswith("Invalid enum value") and isinstance(allowed, type) and issubclass(allowed, enum.Enum):
        return f"is {quote(value)}, but must be one of {', '.join(member.value for member in allowed)}"
    return f"{what[:1].lower()}{what[1:]}: {quote(value)}"


def _locate(tree: object, to: type, steps: list[Step], message: str) -> tuple[str, object]:
    """The path in words and the value there; fills in the unknown keys of `steps`."""
    path, value = "$", tree
    for i, step in enumerate(steps):
        if step is _Unknown.KEY:
            assert isinstance(value, dict)
            key = _first_refused_key(tree, to, steps[:i], value, message)
            # a later unknown key has to be looked for below this one alone
            tree = _replaced(tree, steps[:i], {key: value[key]})
            steps[i], path = key, entry(path, key)
            value = value[key]
        else:
            path += f"[{step}]" if isinstance(step, int) else f".{step}"
            value = value[step]  # type: ignore[index]
    return path, value


def _first_refused_key(tree: object, to: type, steps: list[Step], map: dict[Any, object], message: str) -> Any:
    """Entries are converted in their order, so it is the last of the shortest beginning that is refused alike."""
    items = list(map.items())
    refused, accepted = len(items), 0
    while refused - accepted > 1:
        middle = (refused + accepted) // 2
        try:
            msgspec.convert(_replaced(tree, steps, dict(items[:middle])), to)
        except msgspec.ValidationError as error:
            if str(error) == message:
                refused = middle
                continue
        accepted = middle
    return items[refused - 1][0]


def _replaced(tree: Any, steps: list[Step], value: object) -> object:
    """A copy of the tree with another value at that place."""
    if not steps:
        return value
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[steps[0]] = _replaced(tree[steps[0]], steps[1:], value)
    return copy


def _type_at(to: object, steps: list[Step]) -> object:
    """The declared type at that place, so that a message can name the values of an enumeration."""
    declared = _bare(to)
    for step in steps:
        if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
            names = dict(zip(declared.__struct_encode_fields__, declared.__struct_fields__, strict=True))
            declared = _bare(typing.get_type_hints(declared, include_extras=True)[names[str(step)]])
        else:
            arguments = typing.get_args(declared)
            declared = _bare(arguments[0] if typing.get_origin(declared) is tuple else arguments[1])
    return declared


def _key_type(declared: object) -> object:
    return _bare(typing.get_args(declared)[0]) if typing.get_origin(declared) is dict else str


def _bare(declared: object) -> object:
    """Without Annotated and `| None`."""
    if typing.get_origin(declared) is typing.Annotated:
        return _bare(typing.get_args(declared)[0])
    if typing.get_origin(declared) in (types.UnionType, typing.Union):
        return _bare(next(part for part in typing.get_args(declared) if part is not types.NoneType))
    return declared
