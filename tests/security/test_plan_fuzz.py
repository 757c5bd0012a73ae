"""A plan that our encoder did not make is refused before anything is executed."""

from __future__ import annotations

import errno
import random
import struct

import pytest

from pyruntime._native import ffi, lib
from pyruntime.native.encoder import encode
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Plan, Slot

HEADER = struct.calcsize("=QIIIIII")
RECORD = int(ffi.sizeof("struct operation"))
HOST, INIT = Slot("host", 0), Slot("init", 0)


def spawn(data: bytes | bytearray, cgroup: int = -1) -> int:
    """Only for plans that must be refused: the init's descriptor is no program."""
    result = ffi.new("struct spawn_result *")
    block = bytearray(data)
    return int(lib.spawn_process(ffi.from_buffer(block), len(block), 0, -1, cgroup, [0, 1, 2], [], 0, result))


def a_plan() -> bytearray:
    host = (op.OpenTree("", b"/does/not/exist", HOST, 0, 0),)
    init = (op.OpenProc("", INIT), op.WriteProc("", b"a", b"b", INIT), op.ExecuteProgram("", (b"/x", b"y"), (b"A=b",)))
    return bytearray(encode(Plan(host, (), init, 0, None, 1, 1)).data)


def test_the_unchanged_plan_is_read() -> None:
    assert spawn(a_plan()) == -errno.ENOENT


@pytest.mark.parametrize("record,offset,value", [
    (0, 12, -1), (0, 12, 1), (0, 12, 5000), (0, 16, 0), (1, 12, -1), (1, 12, 2), (0, 0, 0), (0, 0, 10_000), (0, 4, 0),
    (0, 4, 8), (0, 4, 1 << 30), (3, 4, 41), (3, 4, 1 << 30), (0, 8, 64)])
def test_a_wrong_operand_is_refused(record: int, offset: int, value: int) -> None:
    data = a_plan()
    struct.pack_into("=i", data, HEADER + RECORD * record + offset, value)
    assert spawn(data) == -errno.EBADMSG


def test_a_cgroup_slot_outside_of_the_plan() -> None:
    assert spawn(a_plan(), 1) == -errno.EBADMSG


def test_mutated_plans() -> None:
    """Every outcome is an error number: the host operation of the plan cannot succeed, and nothing else may run."""
    chance = random.Random(20261124)
    for _ in range(20_000):
        data = a_plan()
        kind = bytes(data[HEADER:HEADER + 4])
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)):]
        # the failing operation stays first, so that a plan which is accepted does nothing
        if len(data) >= HEADER + 4:
            data[8:12] = struct.pack("=I", 1)
            data[HEADER:HEADER + 4] = kind
        got = spawn(data)
        assert got < 0
