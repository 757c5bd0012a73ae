"""Passing on the listener of a filter to an agent."""

from __future__ import annotations

import array
import datetime
import json
import os
import select
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pyruntime.runtimes import listener
from pyruntime.state import ContainerRecord
from pyruntime.state.record import FilterRecord


class Patient(socket.socket):
    """One that goes on when its peer has closed its end."""

    def sendmsg(self, buffers: Iterable[Any], ancillary: Iterable[Any] = (), flags: int = 0, address: Any = None) -> int:
        sent = super().sendmsg(buffers, ancillary)
        poll = select.poll()
        poll.register(self, select.POLLHUP)
        assert poll.poll(10_000)
        return sent


def test_an_agent_that_closes_its_end_as_soon_as_it_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = str(tmp_path / "agent"), []

    def agent(waiting: socket.socket) -> None:
        connection, _ = waiting.accept()
        with connection:
            data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            told.append(json.loads(data))
            os.close(array.array("i", control[0][2])[0])

    record = ContainerRecord("c", "1.0.2", "/b", "/b/rootfs", 7, 1234, datetime.datetime.now(datetime.UTC), 5, False, (), {},
                             filter=FilterRecord(b"", 0, path, "m"))
    monkeypatch.setattr(listener.os, "readlink", lambda _: listener._SECCOMP_FD)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(path)
        waiting.listen()
        thread = threading.Thread(target=agent, args=(waiting,))
        thread.start()
        monkeypatch.setattr(socket, "socket", Patient)
        listener._send(record, "running", 0, 9)
        thread.join()
    assert (told[0]["pid"], told[0]["metadata"], told[0]["state"]["status"]) == (9, "m", "running")
