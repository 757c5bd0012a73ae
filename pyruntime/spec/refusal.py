"""What a check raises, before the loader adds the file's name; and how it words places and values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_LONGEST_QUOTE = 120


class Refused(Exception):
    """The value at `json_path` cannot be used; `unsupported` if it could by the specification."""

    def __init__(self, json_path: str | None, reason: str, *, unsupported: bool = False) -> None:
        super().__init__(json_path, reason)
        self.json_path = json_path
        self.reason = reason
        self.unsupported = unsupported


def entry(json_path: str, key: object) -> str:
    """The path of an entry of a map: `$.linux.sysctl["kernel.sem"]`."""
    # surrogates are bytes of a caller's string that are not UTF-8
    text = str(key).encode("utf-8", "backslashreplace").decode()
    return f"{json_path}[{msgspec.json.encode(text).decode()}]"


def quote(value: object) -> str:
    """The value as the message shows it: its text if it is short, else what it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            text = repr(value)
            return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
        case list() | tuple():
            return "an array"
        case Mapping() | msgspec.Struct():
            return "an object"
    return f"a value of type {type(value).__name__!r}"
