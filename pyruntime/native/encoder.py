"""Plan to bytes, in the layout of native/abi.h."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import get_type_hints

from msgspec.structs import astuple

from pyruntime._native import ffi, lib
from pyruntime.plan import operations
from pyruntime.plan.operations import Operation, Plan, Slot

_HEADER = struct.Struct("=QIIIIII")
_OPERATION = struct.Struct(f"={1 + lib.PLAN_TEXTS}I{lib.PLAN_SLOTS}iI{lib.PLAN_NUMBERS}Q")
assert _HEADER.size == ffi.sizeof("struct plan_header")
assert _OPERATION.size == ffi.sizeof("struct operation")

_MASK = (1 << 64) - 1
# what fills up the operands that an operation does not have, by how many it has
_NO_TEXT = tuple((0,) * (lib.PLAN_TEXTS - n) for n in range(lib.PLAN_TEXTS + 1))
_NO_SLOT = tuple((-1,) * (lib.PLAN_SLOTS - n) for n in range(lib.PLAN_SLOTS + 1))
_NO_NUMBER = tuple((0,) * (lib.PLAN_NUMBERS - n) for n in range(lib.PLAN_NUMBERS + 1))


def _kind_of(cls: type[Operation]) -> int:
    name = "".join(f"_{c}" if c.isupper() else c.upper() for c in cls.__name__)
    return int(getattr(lib, f"OP{name}"))


def _layout_of(cls: type[Operation]) -> tuple[int, str]:
    """kind, and a letter for each field behind json_path: t text, b block, l list, s slot, n number."""
    hints = get_type_hints(cls)
    letters = {bytes: "t", int: "n", Slot: "s"}
    return _kind_of(cls), "".join("b" if name in _BLOCKS else letters.get(hints[name], "l")
                                  for name in cls.__struct_fields__[1:])


# bytes that are data and not text: they may hold NULs, and their length stands beside them
_BLOCKS = frozenset({"program", "groups"})
_LAYOUTS = {cls: _layout_of(cls) for cls in vars(operations).values()
            if isinstance(cls, type) and issubclass(cls, Operation) and cls is not Operation}


def encode(plan: Plan) -> bytearray:
    """The plan as one block that the native side executes."""
    every = plan.host + plan.child + plan.init
    arena_start = _HEADER.size + _OPERATION.size * len(every)
    arena = bytearray()
    records = bytearray()
    known: dict[bytes, int] = {}

    pack = _OPERATION.pack

    def place(text: bytes) -> int:
        if b"\0" in text:
            raise ValueError(f"text for the kernel holds a NUL byte: {text!r}")
        offset = known[text] = arena_start + len(arena)
        arena.extend(text + b"\0")
        return offset

    def place_block(block: bytes) -> int:
        arena.extend(bytes(-(arena_start + len(arena)) % 8))
        offset = arena_start + len(arena)
        arena.extend(block)
        arena.append(0)
        return offset

    def place_list(items: Iterable[bytes]) -> int:
        offsets = [known.get(item) or place(item) for item in items]
        arena.extend(bytes(-(arena_start + len(arena)) % 8))
        offset = arena_start + len(arena)
        # one place more than the end: the init may append a variable
        arena.extend(struct.pack(f"={len(offsets) + 2}Q", *offsets, 0, 0))
        return offset

    host_slots = plan.host_slots
    for operation in every:
        kind, letters = _LAYOUTS[type(operation)]
        values = astuple(operation)
        texts, slots, numbers = [], [], []
        for i, letter in enumerate(letters, 1):
            value = values[i]
            if letter == "n":
                numbers.append(value & _MASK)
            elif letter == "t":
                texts.append(known.get(value) or place(value))
            elif letter == "s":
                slots.append(value.index if value.owner == "host" else host_slots + value.index)
            else:
                texts.append(place_list(value) if letter == "l" else place_block(value))
        records += pack(kind, *texts, *_NO_TEXT[len(texts)], *slots, *_NO_SLOT[len(slots)], 0, *numbers,
                        *_NO_NUMBER[len(numbers)])
    size = arena_start + len(arena) + 1
    header = _HEADER.pack(size, len(plan.host), len(plan.child), len(plan.init), plan.host_slots,
                          plan.host_slots + plan.init_slots, plan.preserve_fds)
    return bytearray(header) + records + arena + b"\0"
