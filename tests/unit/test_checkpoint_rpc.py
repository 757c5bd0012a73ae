"""What is said to CRIU and heard from it, with another end that says it by hand. Numbers are those of CRIU's images/rpc.proto."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest

from pyruntime.checkpoint import rpc
from pyruntime.checkpoint.criu import read_errors

# type=NOTIFY success=true notify{script="post-restore" pid=7}; the same of RESTORE with restore{pid=7}, of DUMP that failed with errno 22
POST_RESTORE = bytes.fromhex("0806 1001 2a10 0a0c") + b"post-restore" + bytes.fromhex("1007")
RESTORED = bytes.fromhex("0802 1001 2202 0807")
FAILED = bytes.fromhex("0801 1000 3816 4a02") + b"no"


@pytest.fixture
def ends() -> Iterator[tuple[rpc.Connection, socket.socket]]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        yield rpc.Connection(ours), its


def answer(its: socket.socket, *messages: bytes, descriptors: Sequence[int] = ()) -> list[bytes]:
    """What comes in, one for each message that is sent back."""
    heard: list[bytes] = []

    def run() -> None:
        for message in messages:
            heard.append(its.recv(65536))
            socket.send_fds(its, [message], descriptors)

    threading.Thread(target=run, daemon=True).start()
    return heard


def test_bytes_of_a_request() -> None:
    data = rpc.encode_request(rpc.DUMP, opts={
        "images_dir_fd": 5, "pid": 300, "leave_running": True, "ext_mnt": [{"key": "/a", "val": "0"}], "external": ["net[1]:k"],
        "inherit_fd": [{"key": "pipe:[1]", "fd": 4}], "cg_root": [{"ctrl": "", "path": "/c"}], "manage_cgroups_mode": 0})
    assert data == bytes.fromhex("0801 1237 0805 10ac02 1801") + (
        bytes.fromhex("ba01 07 0a02") + b"/a" + bytes.fromhex("1201") + b"0" + bytes.fromhex("ca01 06 0a00 1202") + b"/c"
        + bytes.fromhex("da01 0c 0a08") + b"pipe:[1]" + bytes.fromhex("1004 9002 00 aa02 08") + b"net[1]:k")


def test_a_restore_with_a_notification(ends: tuple[rpc.Connection, socket.socket]) -> None:
    connection, its = ends
    heard = answer(its, POST_RESTORE, RESTORED)
    told: list[tuple[str, int]] = []
    response = connection.call(rpc.RESTORE, {"images_dir_fd": 3}, on_notify=lambda stage, pid, _: told.append((stage, pid)))
    assert response.restore.pid == 7 and told == [("post-restore", 7)]
    assert heard == [rpc.encode_request(rpc.RESTORE, opts={"images_dir_fd": 3}), bytes.fromhex("0806 1801")]


def test_what_a_notification_raises_is_told_to_both(ends: tuple[rpc.Connection, socket.socket]) -> None:
    connection, its = ends
    heard = answer(its, POST_RESTORE, FAILED)

    def refuse(stage: str, pid: int, descriptors: Sequence[int]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        connection.call(rpc.RESTORE, {"images_dir_fd": 3}, on_notify=refuse)
    assert heard[1] == bytes.fromhex("0806 1800")


def test_a_refusal(ends: tuple[rpc.Connection, socket.socket]) -> None:
    connection, its = ends
    answer(its, FAILED)
    with pytest.raises(rpc.Refused, match="no") as caught:
        connection.call(rpc.DUMP, {"images_dir_fd": 3})
    assert caught.value.errno == 22


def test_an_end_without_an_answer(ends: tuple[rpc.Connection, socket.socket]) -> None:
    connection, its = ends
    its.close()
    with pytest.raises(rpc.Refused, match="criu has ended"):
        connection.call(rpc.DUMP, {"images_dir_fd": 3})


def test_descriptors_are_the_listeners_or_closed(ends: tuple[rpc.Connection, socket.socket]) -> None:
    connection, its = ends
    read, write = os.pipe()
    answer(its, POST_RESTORE, RESTORED, descriptors=[write])
    got: list[int] = []
    connection.call(rpc.RESTORE, {"images_dir_fd": 3}, on_notify=lambda stage, pid, descriptors: got.extend(descriptors))
    os.write(got[0], b"x")
    os.close(got[0])
    os.close(write)
    assert os.read(read, 10) == b"x" and os.read(read, 10) == b""  # the one of the last response was closed
    os.close(read)


def test_errors_of_a_log(tmp_path: os.PathLike[str]) -> None:
    log = os.path.join(tmp_path, "log")
    assert read_errors(None) == () and read_errors(log) == ()
    with open(log, "wb") as file:
        file.write(b"(00.000001) fine\n(00.000002) Error (criu/a.c:1): x: \xff\n(00.000003)      1: Error (criu/b.c:2): y\nError (c) z\n")
    assert read_errors(log) == ("Error (criu/a.c:1): x: \\xff", "1: Error (criu/b.c:2): y", "Error (c) z")


def test_nothing_of_it_is_imported_before() -> None:
    script = ("import sys, pyruntime.runtimes.native, pyruntime.cli.main, pyruntime.cli.life_cycle\n"
              "print([m for m in sys.modules if m.startswith(('google', 'pyruntime.checkpoint', 'pyruntime.plan.restore'))])")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
