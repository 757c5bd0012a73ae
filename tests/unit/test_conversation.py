"""What an init says that was not asked."""

from __future__ import annotations

import os
import socket

import pytest

from pyruntime._native import ffi, lib
from pyruntime.native.encoder import encode
from pyruntime.native.process import MESSAGE_EXECUTING, Spawned
from pyruntime.plan.operations import Plan


def say(wire: socket.socket, kind: int, *descriptors: int) -> None:
    message = ffi.new("struct message *")
    message.type = kind
    socket.send_fds(wire, [bytes(ffi.buffer(message))], descriptors)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_console_that_nobody_asked_for(is_asked: bool) -> None:
    """It could be any descriptor, and would be the process's standard streams."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = encode(Plan((), (), (), 0, None, 0, 0, opens_console=is_asked))
    before = set(os.listdir("/proc/self/fd"))
    spawned = Spawned(plan, "c", 0, -1, os.dup(ours.fileno()))
    with open("/dev/null", "rb") as file:
        say(its, lib.MESSAGE_CONSOLE, file.fileno())
        say(its, MESSAGE_EXECUTING)
        its.close()
        ours.close()
        spawned.follow(MESSAGE_EXECUTING)
        assert (spawned.console >= 0) is is_asked
    spawned.discard()
    assert set(os.listdir("/proc/self/fd")) < before
