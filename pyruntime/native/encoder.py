"""Plan to bytes, in the layout of native/abi.h."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

import msgspec
from msgspec.structs import astuple

from pyruntime._native import ffi, lib
from pyruntime.plan.operations import Operation, Plan

_HEADER = struct.Struct("=QIIIIIIIIII")
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


@functools.cache
def _layout_of(cls: type[Operation]) -> tuple[int, str]:
    """kind, and a letter for each field behind json_path: t text, b block, l list, s slot, n number; for a `place`, which is
    the last, there is none."""
    hints: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        hints.update(getattr(base, "__annotations__", {}))
    return _kind_of(cls), "".join("b" if name in _BLOCKS else _LETTERS[hints[name]] for name in cls.__struct_fields__[1:])


# annotations as they are written: evaluating them would take ten times as long as encoding a plan does
_LETTERS = {"bytes": "t", "int": "n", "Slot": "s", "str": "", "tuple[bytes, ...]": "l"}
# bytes that are data and not text: they may hold NULs, and their length stands beside them
_BLOCKS = frozenset({"program", "groups", "members"})


class EncodedPlan(msgspec.Struct, frozen=True):
    """A plan as one block that the native side executes, for any container whose id has the same length.

    holes   offsets in `data` where the id has to be put: wherever the plan's texts have `hole_size` NULs
    """

    plan: Plan
    data: bytes
    holes: tuple[int, ...]
    hole_size: int

    def fill(self, id: bytes) -> bytearray:
        """The block for that id."""
        assert len(id) == self.hole_size or not self.holes, "the plan is for ids of another length"
        data = bytearray(self.data)
        for hole in self.holes:
            data[hole:hole + self.hole_size] = id
        return data


def encode(plan: Plan, hole_size: int = 0) -> EncodedPlan:
    """Encode a plan. hole_size: the length of the ids that take the place of so many NULs; 0 for a plan without holes.

    Raises ValueError for any other NUL in a text.
    """
    every = plan.host + plan.child + plan.init
    arena_start = _HEADER.size + _OPERATION.size * len(every)
    arena = bytearray()
    records = bytearray()
    known: dict[bytes, int] = {}
    holes: list[int] = []

    pack = _OPERATION.pack

    def place(text: bytes) -> int:
        offset = known[text] = arena_start + len(arena)
        if b"\0" in text:
            holes.extend(offset + at for at in _find_holes(text, hole_size))
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

    first_slot = {"host": 0, "late": plan.host_slots, "init": plan.host_slots + plan.late_slots}
    for operation in every:
        kind, letters = _layout_of(type(operation))
        values = astuple(operation)
        texts, slots, numbers = [], [], []
        for i, letter in enumerate(letters, 1):
            value = values[i]
            if letter == "n":
                numbers.append(value & _MASK)
            elif letter == "t":
                texts.append(known.get(value) or place(value))
            elif letter == "s":
                slots.append(first_slot[value.owner] + value.index)
            else:
                texts.append(place_list(value) if letter == "l" else place_block(value))
        records += pack(kind, *texts, *_NO_TEXT[len(texts)], *slots, *_NO_SLOT[len(slots)], 0, *numbers,
                        *_NO_NUMBER[len(numbers)])
    size = arena_start + len(arena) + 1
    header = _HEADER.pack(size, len(plan.host), len(plan.child), len(plan.init), plan.host_slots,
                          plan.late_slots, first_slot["init"] + plan.init_slots, plan.preserve_fds + plan.given_fds, plan.given_fds,
                          int(plan.is_relayed), int(plan.is_traceable))
    return EncodedPlan(plan, header + records + arena + b"\0", tuple(holes), hole_size)


def _find_holes(text: bytes, size: int) -> Iterable[int]:
    at = text.find(b"\0")
    while at >= 0:
        if not size or text[at:at + size] != bytes(size):
            raise ValueError(f"text for the kernel holds a NUL byte: {text!r}")
        yield at
        at = text.find(b"\0", at + size)
