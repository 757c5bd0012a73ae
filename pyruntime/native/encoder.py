"""Plan to bytes, in the layout of native/abi.h."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import get_type_hints

from pyruntime._native import ffi, lib
from pyruntime.plan import operations
from pyruntime.plan.operations import Operation, Plan, Slot

_HEADER = struct.Struct("=QIIIIII")
_OPERATION = struct.Struct(f"={1 + lib.PLAN_TEXTS}I{lib.PLAN_SLOTS}iI{lib.PLAN_NUMBERS}Q")
assert _HEADER.size == ffi.sizeof("struct plan_header")
assert _OPERATION.size == ffi.sizeof("struct operation")

_MASK = (1 << 64) - 1


def _kind_of(cls: type[Operation]) -> int:
    name = "".join(f"_{c}" if c.isupper() else c.upper() for c in cls.__name__)
    return int(getattr(lib, f"OP{name}"))


def _layout_of(cls: type[Operation]) -> tuple[int, tuple[tuple[str, str], ...], tuple[str, ...], tuple[str, ...]]:
    """kind, (field, "bytes" or "list") of the texts, fields of the slots, fields of the numbers."""
    texts: list[tuple[str, str]] = []
    slots: list[str] = []
    numbers: list[str] = []
    hints = get_type_hints(cls)
    for name in cls.__struct_fields__[1:]:
        if hints[name] is bytes:
            texts.append((name, "bytes"))
        elif hints[name] is Slot:
            slots.append(name)
        elif hints[name] is int:
            numbers.append(name)
        else:
            texts.append((name, "list"))
    return _kind_of(cls), tuple(texts), tuple(slots), tuple(numbers)


_LAYOUTS = {cls: _layout_of(cls) for cls in vars(operations).values()
            if isinstance(cls, type) and issubclass(cls, Operation) and cls is not Operation}


def encode(plan: Plan) -> bytearray:
    """The plan as one block that the native side executes."""
    every = plan.host + plan.child + plan.init
    arena_start = _HEADER.size + _OPERATION.size * len(every)
    arena = bytearray()
    records = bytearray()
    known: dict[bytes, int] = {}

    def place(text: bytes) -> int:
        offset = known.get(text)
        if offset is None:
            if b"\0" in text:
                raise ValueError(f"text for the kernel holds a NUL byte: {text!r}")
            offset = known[text] = arena_start + len(arena)
            arena.extend(text)
            arena.append(0)
        return offset

    def place_block(block: bytes) -> int:
        arena.extend(bytes(-(arena_start + len(arena)) % 8))
        offset = arena_start + len(arena)
        arena.extend(block)
        arena.append(0)
        return offset

    def place_list(items: Iterable[bytes]) -> int:
        offsets = [place(item) for item in items]
        arena.extend(bytes(-(arena_start + len(arena)) % 8))
        offset = arena_start + len(arena)
        # one place more than the end: the init may append a variable
        arena.extend(struct.pack(f"={len(offsets) + 2}Q", *offsets, 0, 0))
        return offset

    for operation in every:
        kind, text_fields, slot_fields, number_fields = _LAYOUTS[type(operation)]
        texts = [0, 0]
        slots = [-1, -1]
        numbers = [0, 0, 0, 0]
        for i, (name, form) in enumerate(text_fields):
            value = getattr(operation, name)
            if form == "list":
                texts[i] = place_list(value)
            elif name in ("program", "groups"):
                texts[i] = place_block(value)
            else:
                texts[i] = place(value)
        for i, name in enumerate(slot_fields):
            slot = getattr(operation, name)
            slots[i] = slot.index if slot.owner == "host" else plan.host_slots + slot.index
        for i, name in enumerate(number_fields):
            numbers[i] = getattr(operation, name) & _MASK
        records += _OPERATION.pack(kind, *texts, *slots, 0, *numbers)
    size = arena_start + len(arena) + 1
    header = _HEADER.pack(size, len(plan.host), len(plan.child), len(plan.init), plan.host_slots,
                          plan.host_slots + plan.init_slots, plan.preserve_fds)
    return bytearray(header) + records + arena + b"\0"
