"""A plan that our encoder did not make is refused before anything is executed, or comes to an orderly end."""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pyruntime._native import ffi, lib
from pyruntime.native.encoder import encode
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Plan, Slot
from pyruntime.testing.snapshot import HostSnapshot

HEADER = int(ffi.sizeof("struct plan_header"))
RECORD = int(ffi.sizeof("struct operation"))
HOST, INIT = Slot("host", 0), Slot("init", 0)


@functools.cache
def no_init() -> int:
    """Sealed as the init's memfd is, and no program: what is accepted runs nothing."""
    fd = os.memfd_create("no init", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"no program")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


def spawn(data: bytes | bytearray, cgroup: int = -1) -> int:
    """Only for plans that must be refused."""
    result = ffi.new("struct spawn_result *")
    block = bytearray(data)
    return int(lib.spawn_process(ffi.from_buffer(block), len(block), 0, no_init(), cgroup, [0, 1, 2], [], 0, 60000, result))


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


@pytest.mark.parametrize("shift", [0, 8])
def test_lists_that_overlap(shift: int) -> None:
    """Both become pointers in place: the second pass would take the first one's for offsets."""
    data = a_plan()
    at = HEADER + RECORD * 3 + 4
    (arguments,) = struct.unpack_from("=I", data, at)
    struct.pack_into("=I", data, at + 4, arguments + shift)
    assert spawn(data) == -errno.EBADMSG


def test_mutated_plans() -> None:
    """Every outcome is an error number: the host operation of the plan cannot succeed, and nothing else may run."""
    chance = random.Random(20261124)
    outcomes: Counter[int] = Counter()
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
        outcomes[got] += 1
    # refused, or the host operation of a plan that was accepted
    assert outcomes[-errno.EBADMSG] > 1000 and outcomes[-errno.ENOENT] > 1000


@pytest.mark.privileged
def test_mutants_that_the_init_executes(tmp_path: Path) -> None:
    """Of containers and of exec processes, in namespaces where none of them can hurt the host (fuzz.py)."""
    before, mounts = HostSnapshot.take(), Path("/proc/self/mountinfo").read_text()
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "20261124", "3000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                          start_new_session=True) as fuzzer:
        try:
            out, err = fuzzer.communicate(timeout=500)  # a virtual machine takes minutes
        except subprocess.TimeoutExpired:
            os.killpg(fuzzer.pid, signal.SIGKILL)  # it has forked
            raise
    assert fuzzer.returncode == 0, err
    result = json.loads(out)
    assert result["bad"] == []
    assert result["left"] == []
    for name, outcomes in result["outcomes"].items():
        # most of them get to the init, and many of those are found out by it only
        reached = outcomes["program"] + outcomes["failure"]
        assert reached > 0.6 * sum(outcomes.values()), (name, outcomes)
        assert outcomes["failure"] > 0.1 * sum(outcomes.values()), (name, outcomes)
    assert len(result["failed_at"]) > 25
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert HostSnapshot.take().differences(before, ["c"]) == []
