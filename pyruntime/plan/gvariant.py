"""Values in GVariant's text format (docs.gtk.org/glib/gvariant-text-format.html), as far as properties of systemd's units have them.

These have no dictionaries, variants, object paths or values that may be missing. Of numbers there are no hexadecimal floating point ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyruntime.spec.refusal import quote

_INTEGERS = {"y": (0, 2**8 - 1), "n": (-2**15, 2**15 - 1), "q": (0, 2**16 - 1), "i": (-2**31, 2**31 - 1), "u": (0, 2**32 - 1),
             "x": (-2**63, 2**63 - 1), "t": (0, 2**64 - 1)}
NUMBERS = frozenset((*_INTEGERS, "d"))
_BASIC = frozenset((*NUMBERS, "b", "s"))
_KEYWORDS = {"boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
             "double": "d", "string": "s"}
# in a type that is not known yet: an integer literal, and the elements of an empty array
_ANY_NUMBER, _ANYTHING = "N", "*"
# of the D-Bus specification: a signature's length, and arrays in each other, here of arrays and tuples together
_LONGEST_TYPE, _DEEPEST = 255, 32
_SPACE = " \t\n\v\f\r"
_NUMBER, _WORD, _TYPE = re.compile(r"[-+.0-9][-+.0-9A-Za-z]*"), re.compile(r"[A-Za-z][A-Za-z0-9]*"), re.compile(r"@[^\s,:>\]]*")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
# of an integer of 64 bits with its 0x or 0, and some to spare
_MOST_DIGITS = 24
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}


class _Number(NamedTuple):
    text: str


class _Value(NamedTuple):
    """What is known of a value before its type is: an integer in an array is what the other elements are.

    content   bool, str, bytes, _Number, or the values in it, as a list of an array's and a tuple of a tuple's
    """

    type: str
    at: int
    content: Any


def parse(text: str) -> tuple[str, Any]:
    """The D-Bus signature and the value, whose arrays are lists, or bytes. Raises ValueError, which says what is wrong and where."""
    reader = _Reader(text)
    value = reader.value()
    reader.end()
    type = value.type.replace(_ANY_NUMBER, "i")
    if _ANYTHING in type:
        raise _wrong(value.at, "an empty array has to have a type, such as '@as []'")
    if len(type) > _LONGEST_TYPE:
        raise _wrong(value.at, f"the type is longer than {_LONGEST_TYPE} characters")
    return type, _made(value, type)


def _wrong(at: int, what: str) -> ValueError:
    return ValueError(f"{what}, at character {at + 1}")


class _Reader:
    """Reads a text from its start to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def end(self) -> None:
        if self._next():
            raise _wrong(self._at, f"{self._next()!r} follows the value")

    def value(self, depth: int = 0) -> _Value:
        character, at = self._next(), self._at
        if depth > _DEEPEST:
            raise _wrong(at, f"more than {_DEEPEST} values are in each other")
        if not character:
            raise _wrong(at, "a value is missing")
        if character in "'\"":
            return _Value("s", at, self._string(character))
        if character == "b" and self._text[at + 1:at + 2] in ("'", '"'):
            self._at += 1
            return _Value("ay", at, self._bytes(self._text[self._at]))
        if character == "[":
            return self._array(depth)
        if character == "(":
            return self._tuple(depth)
        if character == "@":
            return self._of_type(self._stated_type(), depth)
        if (number := self._match(_NUMBER)) is not None:
            is_real = "." in number or ("e" in number and not number.lstrip("+-").lower().startswith("0x"))
            return _Value("d" if is_real else _ANY_NUMBER, at, _Number(number))
        word = self._match(_WORD)
        if word in ("true", "false"):
            return _Value("b", at, word == "true")
        if word in _KEYWORDS:
            return self._of_type(_KEYWORDS[word], depth)
        if word is not None:
            raise _wrong(at, f"{quote(word)} is no value, nor a type that a property has; text is in quotes")
        raise _wrong(at, f"{character!r} begins no value that a property has")

    def _next(self) -> str:
        """The next character that counts; '' at the end."""
        while self._text[self._at:self._at + 1] and self._text[self._at] in _SPACE:
            self._at += 1
        return self._text[self._at:self._at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match[0]

    def _take(self, wanted: str) -> bool:
        if self._next() != wanted:
            return False
        self._at += 1
        return True

    def _need_comma(self, otherwise: str = "") -> None:
        if not self._take(","):
            found = repr(self._next()) if self._next() else "the end"
            raise _wrong(self._at, f"{found} stands where a comma{otherwise} has to")

    def _array(self, depth: int) -> _Value:
        at, type, values = self._at, _ANYTHING, list[_Value]()
        self._take("[")
        while not self._take("]"):
            if values:
                self._need_comma(" or ']'")
            value = self.value(depth + 1)
            merged = _merged(type, value.type)
            if merged is None:
                raise _wrong(value.at, "an array's elements are of different types")
            type = merged
            values.append(value)
        return _Value(f"a{type}", at, values)

    def _tuple(self, depth: int) -> _Value:
        at, values = self._at, list[_Value]()
        self._take("(")
        while not self._take(")"):
            if len(values) > 1:
                self._need_comma(" or ')'")
            values.append(self.value(depth + 1))
            # as in Python, a comma follows the only one
            if len(values) == 1:
                self._need_comma()
        if not values:
            raise _wrong(at, "a tuple of nothing has no type in D-Bus")
        return _Value(f"({''.join(value.type for value in values)})", at, tuple(values))

    def _of_type(self, type: str, depth: int) -> _Value:
        value = self.value(depth + 1)
        merged = _merged(type, value.type)
        if merged is None:
            raise _wrong(value.at, f"this is no value of type {type!r}")
        return value._replace(type=merged)

    def _stated_type(self) -> str:
        at = self._at
        type = (self._match(_TYPE) or "")[1:]
        if len(type) > _LONGEST_TYPE or _end_of_type(type, 0) != len(type):
            raise _wrong(at, f"{quote(type)} is no type that a property has")
        return type

    def _quoted(self, quote: str) -> Iterator[tuple[int, str, bool]]:
        """Each character up to the closing quote: where it is, and whether it is escaped."""
        begin = self._at
        self._at += 1
        while (character := self._text[self._at:self._at + 1]) != quote:
            is_escaped = character == "\\"
            self._at += is_escaped
            if self._at >= len(self._text):
                raise _wrong(begin, "the closing quote is missing")
            at, character = self._at, self._text[self._at]
            self._at += 1
            yield at, character, is_escaped
        self._at += 1

    def _string(self, quote: str) -> str:
        characters = []
        for at, character, is_escaped in self._quoted(quote):
            if is_escaped and character in "uU":
                character = self._code_point(at, 4 if character == "u" else 8)
            elif is_escaped:
                character = _CONTROLS.get(character, character)
            if character == "\0" or "\ud800" <= character <= "\udfff":
                raise _wrong(at, "no text has such a character")
            characters.append(character)
        return "".join(characters)

    def _code_point(self, at: int, digits: int) -> str:
        text = self._text[self._at:self._at + digits]
        if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text) or int(text, 16) > 0x10ffff:
            raise _wrong(at, f"the escape needs {digits} hexadecimal digits of a character")
        self._at += digits
        return chr(int(text, 16))

    def _bytes(self, quote: str) -> bytes:
        found = bytearray()
        for at, character, is_escaped in self._quoted(quote):
            if is_escaped and character in "01234567":
                octal = character + (self._match(re.compile("[0-7]{1,2}")) or "")
                if not 0 < int(octal, 8) <= 255:
                    raise _wrong(at, "a string of bytes has none of this value")
                found.append(int(octal, 8))
            else:
                found += (_CONTROLS.get(character, character) if is_escaped else character).encode()
        return bytes(found) + b"\0"


def _end_of_type(text: str, at: int, depth: int = 0) -> int:
    """Where the type that begins there ends; -1 if none does."""
    first = text[at:at + 1]
    if first in _BASIC:
        return at + 1
    if depth >= _DEEPEST:
        return -1
    if first == "a":
        return _end_of_type(text, at + 1, depth + 1)
    if first != "(" or text[at + 1:at + 2] == ")":
        return -1
    at += 1
    while at > 0 and text[at:at + 1] != ")":
        at = _end_of_type(text, at, depth + 1)
    return at + 1 if at > 0 else -1


def _elements(type: str) -> list[str]:
    """The types in that of a tuple."""
    found, at, open = [], 1, 0
    for i in range(1, len(type) - 1):
        open += {"(": 1, ")": -1}.get(type[i], 0)
        if not open and type[i] != "a":
            found.append(type[at:i + 1])
            at = i + 1
    return found


def _merged(one: str, other: str) -> str | None:
    """The type that is both; None if none is."""
    if one == other or other == _ANYTHING:
        return one
    if one == _ANYTHING:
        return other
    for known, unknown in ((one, other), (other, one)):
        if unknown == _ANY_NUMBER:
            return known if known in NUMBERS else None
    if one[0] == other[0] == "a":
        element = _merged(one[1:], other[1:])
        return None if element is None else f"a{element}"
    if one[0] == other[0] == "(":
        ones, others = _elements(one), _elements(other)
        merged = [_merged(*pair) for pair in zip(ones, others, strict=False)]
        return f"({''.join(filter(None, merged))})" if len(ones) == len(others) and None not in merged else None
    return None


def _made(value: _Value, type: str) -> Any:
    content = value.content
    if isinstance(content, _Number):
        return _real(value.at, content.text) if type == "d" else _integer(value.at, content.text, type)
    if isinstance(content, list):
        made = [_made(element, type[1:]) for element in content]
        return bytes(made) if type == "ay" else made
    if isinstance(content, tuple):
        return tuple(_made(*pair) for pair in zip(content, _elements(type), strict=True))
    return content


def _integer(at: int, text: str, type: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _wrong(at, f"{quote(text)} is no integer")
    lowest, highest = _INTEGERS[type]
    digits = text.lstrip("+-").lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    size = int(digits, base) if len(digits) <= _MOST_DIGITS else highest + 1
    number = -size if text.startswith("-") else size
    if not lowest <= number <= highest:
        raise _wrong(at, f"{quote(text)} is not from {lowest} to {highest}, as one of type {type!r} is")
    return number


def _real(at: int, text: str) -> float:
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    if math.isinf(number):
        raise _wrong(at, f"{quote(text)} is no decimal number, or too large")
    return number
