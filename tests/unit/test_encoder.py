"""Encoded plans, decoded again as native/abi.h says; the classes against the header."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import get_type_hints

import pytest

from pyruntime.native.encoder import encode
from pyruntime.plan import flags, host_operations, mount_operations, scheduling_operations
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Operation, Plan, Slot

NATIVE = Path(__file__).parents[2] / "native"
# what `operations` has of other modules, it has imported
CLASSES = list(dict.fromkeys(cls for module in (host_operations, mount_operations, scheduling_operations, op) for cls in vars(module).values()
                             if isinstance(cls, type) and issubclass(cls, Operation) and cls is not Operation))
HEADER, RECORD = struct.Struct("=QIIIIIIIIII"), struct.Struct("=3I2iI5Q")
BLOCKS = {"program", "groups", "members"}
# of each kind, by its number
KINDS = re.findall(r"\b(OP_[A-Z_]+)(?: = 1)?,", (NATIVE / "abi.h").read_text())


def constant_of(cls: type[Operation]) -> str:
    return "OP" + re.sub(r"([A-Z])", r"_\1", cls.__name__).upper()


def sample(cls: type[Operation], seed: int) -> Operation:
    """An instance with distinct values."""
    values: list[object] = ["$.x"]
    hints = get_type_hints(cls)
    for i, name in enumerate(cls.__struct_fields__[1:]):
        number = seed * 10 + i
        if hints[name] is bytes:
            values.append(b"a\0b%02d" % (seed % 100) if name in BLOCKS else b"text %d" % number)
        elif hints[name] is int:
            values.append(5 if name == "size" and BLOCKS & set(cls.__struct_fields__) else number)
        elif hints[name] is str:
            values.append("")  # no operand
        elif hints[name] is Slot:
            values.append(Slot(("host", "init", "late")[(seed + i) % 3], i))
        else:
            values.append((b"one %d" % number, b"", b"two"))
    return cls(*values)


def decode(data: bytes, plan: Plan) -> list[Operation]:
    size, *counts, host_slots, late_slots, slots, preserve, given, relayed, traceable = HEADER.unpack_from(data)
    assert size == len(data) and data[-1] == 0
    assert counts == [len(plan.host), len(plan.child), len(plan.init)]
    assert (host_slots, late_slots, slots) == (
        plan.host_slots, plan.late_slots, plan.host_slots + plan.late_slots + plan.init_slots)
    assert (preserve, given, relayed, traceable) == (
        plan.preserve_fds + plan.given_fds, plan.given_fds, plan.is_relayed, plan.is_traceable)

    def text(offset: int) -> bytes:
        return bytes(data[offset:data.index(0, offset)])

    found = []
    every = plan.host + plan.child + plan.init
    for i, original in enumerate(every):
        kind, *fields = RECORD.unpack_from(data, HEADER.size + i * RECORD.size)
        texts, slot_numbers, reserved, numbers = fields[:2], fields[2:4], fields[4], fields[5:]
        assert reserved == 0 and KINDS[kind - 1] == constant_of(type(original))
        values: list[object] = [original.json_path]
        for name in original.__struct_fields__[1:]:
            hint = get_type_hints(type(original))[name]
            if hint is int:
                values.append(numbers.pop(0))
            elif hint is str:
                values.append("")
            elif hint is Slot:
                number = slot_numbers.pop(0)
                late, own = number - host_slots, number - host_slots - late_slots
                values.append(Slot("host", number) if late < 0 else Slot("late", late) if own < 0 else Slot("init", own))
            elif name in BLOCKS:
                offset = texts.pop(0)
                assert offset % 8 == 0
                values.append(bytes(data[offset:offset + numbers[0]]))
            elif hint is bytes:
                values.append(text(texts.pop(0)))
            else:
                at, items = texts.pop(0), []
                assert at % 8 == 0
                while offset := struct.unpack_from("=Q", data, at)[0]:
                    items.append(text(offset))
                    at += 8
                values.append(tuple(items))
        # what an operation does not have
        assert not any(texts) and not any(numbers) and all(number == -1 for number in slot_numbers)
        found.append(type(original)(*values))
    return found


def test_every_operation_comes_back() -> None:
    every = tuple(sample(cls, i) for i, cls in enumerate(CLASSES, 1))
    plan = Plan(every[:9], every[9:12], every[12:], 0, None, 4, 4, 4, preserve_fds=2, given_fds=3)
    assert decode(bytes(encode(plan).data), plan) == list(every)


def test_negative_numbers_are_of_two_complements() -> None:
    plan = Plan((), (), (op.SetRlimit("", 1, -1, 2**64 - 1),), 0, None, 0, 0)
    assert RECORD.unpack_from(encode(plan).data, HEADER.size)[6:9] == (1, 2**64 - 1, 2**64 - 1)


def test_equal_texts_are_stored_once() -> None:
    plan = Plan((), (), tuple(op.ProtectPath("", b"/only once") for _ in range(9)), 0, None, 0, 0)
    assert encode(plan).data.count(b"/only once") == 1


def test_a_nul_in_a_text() -> None:
    with pytest.raises(ValueError, match="NUL byte"):
        encode(Plan((), (), (op.SetHostname("", b"a\0b"),), 0, None, 0, 0))


def test_holes_take_an_id() -> None:
    texts = (b"/a/\0\0\0/b", b"\0\0\0", b"_\0\0\0\0\0\0")
    plan = Plan((), (), tuple(op.ProtectPath("", text) for text in texts), 0, None, 0, 0)
    encoded = encode(plan, 3)
    assert len(encoded.holes) == 4
    found = decode(bytes(encoded.fill(b"xyz")), plan)
    assert found == [op.ProtectPath("", text.replace(b"\0\0\0", b"xyz")) for text in texts]
    assert decode(bytes(encoded.fill(b"abc")), plan) != found


@pytest.mark.parametrize("text", [b"a\0", b"\0\0", b"\0\0\0\0", b"\0\0\0a\0"])
def test_a_nul_that_is_no_hole(text: bytes) -> None:
    with pytest.raises(ValueError, match="NUL byte"):
        encode(Plan((), (), (op.SetHostname("", text),), 0, None, 0, 0), 3)


def test_classes_and_kinds_match_one_to_one() -> None:
    # in each file in the order of the kinds
    for module in (host_operations, mount_operations, scheduling_operations, op):
        own = [constant_of(cls) for cls in CLASSES if cls.__module__ == module.__name__]
        assert own == sorted(own, key=KINDS.index), module.__name__
    assert sorted(map(constant_of, CLASSES)) == sorted(KINDS)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_operands_of_the_native_side(cls: type[Operation]) -> None:
    table = dict(re.findall(r'\[(OP_\w+)\] = "(\w*)"', (NATIVE / "plan.c").read_text()))
    hints = get_type_hints(cls)
    fields = [(name, hints[name]) for name in cls.__struct_fields__[1:]]
    texts = "".join("b" if name in BLOCKS else "t" if hint is bytes else "l" for name, hint in fields
                    if hint not in (int, Slot, str))
    slots = sum(hint is Slot for _, hint in fields)
    assert table[constant_of(cls)] == texts + (str(slots) if slots else "")
    assert sum(hint is int for _, hint in fields) <= 5


def test_what_is_for_errors_is_not_encoded() -> None:
    plans = [Plan((), (), (op.PivotRoot("", Slot("init", 0), place),), 0, None, 0, 1) for place in ("", "/srv/rootfs")]
    assert encode(plans[0]).data == encode(plans[1]).data


def test_demands_on_nodes_are_those_of_the_header() -> None:
    declared = (NATIVE / "abi.h").read_text().partition("enum node_demand {")[2].partition("}")[0]
    found = {name: int(number) for name, number in re.findall(r"(NODE_\w+) = (\d+)", declared)}
    assert found == {name: value for name, value in vars(flags).items() if name.startswith("NODE_")} and len(found) == 4
