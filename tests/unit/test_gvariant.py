"""GVariant's text format: what texts mean to D-Bus, and what none of its values is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jeepney.low_level import Endianness, Variant

from pyruntime.plan.gvariant import parse

VALUES: list[tuple[str, str, Any]] = [
    ("true", "b", True), ("false", "b", False), ("boolean true", "b", True), ("@b false", "b", False),
    # integers
    ("37", "i", 37), ("-1", "i", -1), ("+7", "i", 7), ("0", "i", 0), ("-0", "i", 0), ("0x1F", "i", 31), ("0X1f", "i", 31), ("017", "i", 15),
    ("-0x10", "i", -16), ("2147483647", "i", 2**31 - 1), ("-2147483648", "i", -2**31),
    ("uint64 10000000", "t", 10_000_000), ("uint64 18446744073709551615", "t", 2**64 - 1), ("uint64 0xffffffffffffffff", "t", 2**64 - 1),
    ("uint64 01777777777777777777777", "t", 2**64 - 1), ("byte 255", "y", 255), ("int16 -32768", "n", -2**15), ("uint16 65535", "q", 65535),
    ("int32 5", "i", 5), ("uint32 4294967295", "u", 2**32 - 1), ("int64 -9223372036854775808", "x", -2**63),
    ("@t 7", "t", 7), ("@y 0x7", "y", 7), ("@x\t7", "x", 7), ("  uint64\n 7 ", "t", 7), ("int32 int32 7", "i", 7),
    # with a point or an exponent
    ("37.5", "d", 37.5), ("3.75e1", "d", 37.5), ("-.5", "d", -0.5), ("5.", "d", 5.0), ("1e3", "d", 1000.0), ("1e-3", "d", 0.001),
    ("1.E+2", "d", 100.0),
    ("double 5", "d", 5.0), ("@d -7", "d", -7.0), ("double 010", "d", 10.0),
    # text
    ("'inactive-or-failed'", "s", "inactive-or-failed"), ('"a"', "s", "a"), ("''", "s", ""), ("string 'x'", "s", "x"), ("@s 'x'", "s", "x"),
    ("'it\\'s'", "s", "it's"), ('"it\'s"', "s", "it's"), ("'\"'", "s", '"'), ('"\\""', "s", '"'), ("'a\\\\b'", "s", "a\\b"),
    ("'\\a\\b\\f\\n\\r\\t\\v'", "s", "\a\b\f\n\r\t\v"), ("'a\\\nb'", "s", "ab"), ("'\\q\\x41\\101'", "s", "qx41101"),
    ("'\\u00e9 \\U0001F600'", "s", "\u00e9 \U0001f600"), ("'\u00e9'", "s", "\u00e9"), ("'a,b] (c)'", "s", "a,b] (c)"), ("'\n'", "s", "\n"),
    # arrays
    ("['crio.service']", "as", ["crio.service"]), ("['a', \"b\"]", "as", ["a", "b"]), ("@as []", "as", []), ("[ 1 ,2 ]", "ai", [1, 2]),
    ("[uint32 1, 2]", "au", [1, 2]), ("[1, uint32 2]", "au", [1, 2]), ("@au [1, 2]", "au", [1, 2]), ("[1, 2, 3.0]", "ad", [1.0, 2.0, 3.0]),
    ("[true,false]", "ab", [True, False]), ("[[], ['']]", "aas", [[], [""]]), ("[[1, 2], [4, 6.0]]", "aad", [[1.0, 2.0], [4.0, 6.0]]),
    ("@ay [1, 255]", "ay", b"\x01\xff"), ("[byte 0x0f, 2]", "ay", b"\x0f\x02"), ("@ay []", "ay", b""),
    # strings of bytes
    ("b'abc'", "ay", b"abc\0"), ('b"\\001\\37\\7x\\n"', "ay", b"\x01\x1f\x07x\n\0"), ("b''", "ay", b"\0"), ("b'\u00e9'", "ay", b"\xc3\xa9\0"),
    ("[b'a', []]", "aay", [b"a\0", b""]), ("b'\\u0041\\''", "ay", b"u0041'\0"),
    # tuples
    ("('a', uint64 5)", "(st)", ("a", 5)), ("(5,)", "(i)", (5,)), ("@(st) ('a', 5)", "(st)", ("a", 5)),
    ("((1, 'b'), true)", "((is)b)", ((1, "b"), True)),
    ("[('/dev/vda', uint64 7), ('/dev/vdb', 8)]", "a(st)", [("/dev/vda", 7), ("/dev/vdb", 8)]), ("@a(ss) []", "a(ss)", []),
    ("@a(st) [('/dev/vda', 7)]", "a(st)", [("/dev/vda", 7)]), ("[(1, 2), (3, 4.0)]", "a(id)", [(1, 2.0), (3, 4.0)]),
    ("[(2, [byte 10, 0, 0, 0], uint32 8)]", "a(iayu)", [(2, b"\x0a\0\0\0", 8)]), ("(false, ['lo'])", "(bas)", (False, ["lo"])),
    ("[(1, [], (1,)), (uint64 1, ['a'], (1,))]", "a(tas(i))", [(1, [], (1,)), (1, ["a"], (1,))]),
    ("[" * 32 + "1" + "]" * 32, "a" * 32 + "i", None),
]


@pytest.mark.parametrize(("text", "signature", "value"), VALUES, ids=[text[:40] for text, _, _ in VALUES])
def test_values(text: str, signature: str, value: Any) -> None:
    found = parse(text)
    assert found[0] == signature
    if value is not None:
        assert found[1] == value and type(found[1]) is type(value)
    # and D-Bus takes it
    wire = Variant().serialise(found, 0, Endianness.little)
    assert Variant().parse_data(wire, 0, Endianness.little)[0] == found


@pytest.mark.parametrize(("text", "reason"), [
    ("", "a value is missing, at character 1"), ("  ", "a value is missing, at character 3"), ("uint64", "a value is missing, at character 7"),
    ("invalid-value", "'invalid' is no value, nor a type that a property has; text is in quotes, at character 1"),
    ("True", "'True' is no value"),
    ("uint647", "'uint647' is no value"), ("7 8", "'8' follows the value, at character 3"), ("'a' 'b'", "follows the value"),
    ("true]", "']' follows"),
    ("inf", "'inf' is no value"), ("nan", "is no value"), ("nothing", "is no value"), ("just 7", "is no value"),
    ("objectpath '/'", "is no value"),
    ("signature 's'", "is no value"), ("handle 0", "is no value"), ("<7>", "'<' begins no value"), ("{'a': 7}", "'{' begins no value"),
    ("%i", "'%' begins no value"), ("\u0667", "begins no value"), ("\u00a07", "begins no value"),
    # numbers
    ("uint64 -1", "'-1' is not from 0 to 18446744073709551615, as one of type 't' is, at character 8"),
    ("18446744073709551615", "is not from -2147483648 to"), ("10000000000", "is not from"), ("2147483648", "is not from"),
    ("byte 256", "is not from 0 to 255"),
    ("int16 32768", "is not from"), ("uint16 65536", "is not from"), ("uint32 4294967296", "is not from"),
    ("int64 9223372036854775808", "is not from"),
    ("uint64 18446744073709551616", "is not from"), ("uint64 " + "9" * 5000, "9... is not from 0"), ("uint64 0x" + "0" * 5000, "is not from"),
    ("08", "'08' is no integer"), ("7x", "'7x' is no integer"), ("0x", "is no integer"), ("--7", "is no integer"), ("+-7", "is no integer"),
    ("1E3", "is no integer"), ("10s", "is no integer"), ("10min", "is no integer"),
    ("uint64 5.0", "this is no value of type 't', at character 8"), ("uint64 5e0", "no value of type"),
    ("-", "is no integer"), ("7-", "is no integer"), (".", "'.' is no decimal number"), ("1.2.3", "is no decimal number"),
    ("1e", "is no decimal"),
    ("1e999", "is no decimal number, or too large"), ("-1e999", "too large"), ("double 0x10", "is no decimal number"),
    ("0x1.8p1", "is no decimal"),
    # types
    ("uint64 'a'", "this is no value of type 't'"), ("string 7", "no value of type 's'"), ("boolean 1", "no value of type 'b'"),
    ("@ 7", "'' is no type"),
    ("@z 7", "'z' is no type that a property has, at character 1"), ("@a 7", "'a' is no type"), ("@() 7", "is no type"),
    ("@(s 7", "is no type"),
    ("@ii 7", "'ii' is no type"), ("@v <7>", "'v' is no type"), ("@o '/'", "'o' is no type"), ("@ms 'a'", "'ms' is no type"),
    ("@a{ss} []", "no type"),
    ("@as 7", "no value of type 'as'"), ("@as [7]", "no value of type"), ("@as", "a value is missing"), ("@" + "a" * 40 + "i []", "is no type"),
    ("@(" + "s" * 300 + ") 1", "is no type"), ("@" + "(" * 40 + "i" + ")" * 40 + " 1", "is no type"), ("int32 int64 7", "no value of type 'i'"),
    # text
    ("'a", "the closing quote is missing, at character 1"), ("'a\"", "closing quote"), ("'a\\'", "closing quote"), ("'a\\", "closing quote"),
    ('["a]', "the closing quote is missing, at character 2"), ("'\\u12'", "the escape needs 4 hexadecimal digits"),
    ("'\\u00g0'", "4 hexadecimal"),
    ("'\\U0000004'", "8 hexadecimal"), ("'\\U00110000'", "8 hexadecimal digits of a character"),
    ("'\\u0000'", "no text has such a character, at character 3"),
    ("'\\ud83d\\ude00'", "no text has"), ("'\0'", "no text has"), ("'\ud800'", "no text has"), ("'\\u+041'", "4 hexadecimal"),
    ("b'a", "closing quote is missing, at character 2"), ("b'\\0'", "a string of bytes has none of this value"),
    ("b'\\777'", "none of this value"),
    # arrays and tuples
    ("[]", "an empty array has to have a type, such as '@as []', at character 1"), ("[[], []]", "an empty array"),
    ("([], 7)", "an empty array"),
    ("[1, 'a']", "an array's elements are of different types, at character 5"), ("[1, [2]]", "different types"),
    ("[uint32 1, int32 2]", "different"),
    ("[('a', 1), ('a',)]", "different types"), ("[('a', 1), (1, 1)]", "different types"), ("['a', true]", "different types"),
    ("[1", "the end stands where a comma or ']' has to, at character 3"), ("[1 2]", "'2' stands where a comma or ']' has to"),
    ("[", "a value is missing"),
    ("[1,]", "']' begins no value"), ("[,]", "',' begins no value"), ("[1)", "')' stands where"), ("()", "a tuple of nothing has no type"),
    ("(1)", "')' stands where a comma has to, at character 3"), ("(1, 2", "the end stands where"), ("(1, 2,)", "')' begins no value"),
    ("(", "a value is missing"), ("[" * 33 + "1" + "]" * 33, "more than 32 values are in each other"), ("[" * 100_000, "more than 32"),
    ("int32 " * 40 + "7", "more than 32"), ("(" + "1, " * 300 + "1)", "the type is longer than 255 characters"),
])
def test_texts_that_are_no_value(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text)
