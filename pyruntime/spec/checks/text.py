"""Strings: absolute paths, lists of numbers, and bytes that the kernel cannot take."""

from __future__ import annotations

import msgspec

from pyruntime.spec.fields import MAPS
from pyruntime.spec.refusal import Refused, entry, quote

_LARGEST_IN_MASK = 2**16 - 1
# What no system call ever sees.
_NOT_FOR_THE_KERNEL = frozenset(("annotations", "listenerMetadata"))


def check_absolute(path: str, json_path: str) -> None:
    if not path.startswith("/"):
        raise Refused(json_path, f"{quote(path)} is not an absolute path")


def check_number_list(text: str | None, json_path: str) -> None:
    """A list of CPUs or memory nodes, such as `0-3,7` (config-linux.md "CPU")."""
    if text is None:
        return
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if not (_is_number(first) and (not dash or _is_number(last) and int(first) <= int(last))):
            raise Refused(json_path, f"{quote(text)} is not a list of numbers and ranges such as '0-3,7'")


def check_mask(text: str | None, json_path: str) -> None:
    """Such a list that becomes a mask: no kernel has a CPU or a node with a larger number."""
    check_number_list(text, json_path)
    for part in (text or "").replace("-", ",").split(","):
        if part.strip() and int(part) > _LARGEST_IN_MASK:
            raise Refused(json_path, f"{quote(text)} names {int(part)}, but the largest number is {_LARGEST_IN_MASK}")


def numbers_in(text: str) -> set[int]:
    """Of such a list, which was checked."""
    ranges = (part.partition("-") for part in text.split(","))
    return {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def check_text(section: msgspec.Struct, json_path: str) -> None:
    """Refuse a NUL, which ends a string in the kernel, and characters that have no bytes; goes through everything."""
    check_plain_text(msgspec.to_builtins(section), json_path)


def check_plain_text(value: object, json_path: str, is_map: bool = False) -> None:
    """The same for plain objects."""
    if isinstance(value, str):
        _check_string(value, json_path)
    elif isinstance(value, list | tuple):
        for i, element in enumerate(value):
            check_plain_text(element, f"{json_path}[{i}]")
    elif isinstance(value, dict):
        for key, element in value.items():
            if is_map:
                _check_string(key, entry(json_path, key))
                check_plain_text(element, entry(json_path, key))
            elif key not in _NOT_FOR_THE_KERNEL:
                check_plain_text(element, f"{json_path}.{key}", is_map=key in MAPS)


def _check_string(text: str, json_path: str) -> None:
    if "\0" in text:
        raise Refused(json_path, f"{quote(text)} contains a NUL character")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Refused(json_path, f"{quote(text)} cannot be written as bytes") from None
