"""sd_notify(3) where a program or a manager is not as it should be."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyruntime.cli import notify
from pyruntime.cli.notify import Notifications


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.bind(str(tmp_path / "manager"))
        yield made


@pytest.fixture
def notifications(manager: socket.socket, tmp_path: Path) -> Iterator[Notifications]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        caller.connect(str(tmp_path / "manager"))
        with Notifications(str(tmp_path), caller) as made:
            yield made


@pytest.fixture
def program(notifications: Notifications, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.connect(str(tmp_path / "notify.sock"))
        yield made


def heard_by(manager: socket.socket) -> list[bytes]:
    """All that it has been told by now; the descriptor of a barrier is closed."""
    heard = []
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
        except BlockingIOError:
            return heard
        for descriptor in descriptors:
            os.close(descriptor)
        heard.append(message)


@pytest.mark.timeout(20)
def test_a_manager_that_does_not_read(notifications: Notifications, program: socket.socket, manager: socket.socket,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Who passes on has signals and an end to wait for. Once it reads it is told again."""
    monkeypatch.setattr(notify, "_CALLER_TIMEOUT_S", 0.1)
    said = []
    while not said or len(said) < 2 * int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 4:
        said.append(b"STATUS=%d" % len(said))
        program.send(said[-1])
        assert not notifications.pass_on(1)
    heard = heard_by(manager)
    assert heard == said[:len(heard)] and 0 < len(heard) < len(said)
    program.send(b"STATUS=last")
    notifications.pass_on(1)
    assert heard_by(manager) == [b"STATUS=last"]


@pytest.mark.timeout(20)
def test_a_program_that_does_not_stop(notifications: Notifications, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is always one more: others have to be heard meanwhile."""
    monkeypatch.setattr(notifications, "_receive", lambda: b"X=again")
    assert not notifications.pass_on(1)


@pytest.mark.timeout(20)
def test_a_barrier_is_set_once(notifications: Notifications, program: socket.socket, manager: socket.socket,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a manager that knows none each would keep signals waiting."""
    monkeypatch.setattr(notify, "_BARRIER_TIMEOUT_MS", 10)
    for _ in range(2):
        program.send(b"READY=1")
        assert notifications.pass_on(7)
    assert heard_by(manager) == [b"READY=1\nMAINPID=7", b"BARRIER=1", b"READY=1\nMAINPID=7"]
