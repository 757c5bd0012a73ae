"""What is heard on a wire, from whoever has its other end."""

from __future__ import annotations

import array
import os
import socket

from pyruntime._native import ffi, lib


def test_a_descriptor_without_a_message_is_closed() -> None:
    heard = ffi.new("struct conversation *")
    heard.pidfd = heard.console = -1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with ours, theirs, open(reading, "rb", buffering=0) as pipe:
        theirs.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))])
        os.close(writing)
        assert lib.listen_to_init(ours.fileno(), lib.SUCCESSION_NONE, heard) == 1
        os.set_blocking(pipe.fileno(), False)
        assert pipe.read() == b"", "somebody has the other end"
    assert (heard.said, heard.console) == (0, -1)
