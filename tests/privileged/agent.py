"""Somebody who is notified of system calls, and answers."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

# linux/seccomp.h: struct seccomp_notif and struct seccomp_notif_resp
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_RECEIVE, _SEND = 3 << 30 | _NOTIFICATION.size << 16 | 0x2100, 3 << 30 | _ANSWER.size << 16 | 0x2101
_CONTINUE = 1


class Agent:
    """Listens at a path from entering it on. answers: by the call's number a value, or an errno below 0; all others go on.

    states   what it was sent, one for each connection
    calls    numbers of the calls that it was notified of
    """

    def __init__(self, path: Path, answers: Mapping[int, int]) -> None:
        self.path = path
        self._answers = answers
        self.states: list[dict[str, Any]] = []
        self._was_told = threading.Condition()
        self.calls: list[int] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Agent:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._run(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._socket.close()
        self.path.unlink()

    def told(self, count: int) -> list[dict[str, Any]]:
        """`states` once there are so many: nobody who sends one waits until it was read."""
        with self._was_told:
            assert self._was_told.wait_for(lambda: len(self.states) >= count, 20), f"{len(self.states)} of {count} states came"
            return list(self.states)

    def _run(self, target: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                data, descriptors, _, _ = socket.recv_fds(connection, 65536, 8)
                while more := connection.recv(65536):
                    data += more
            (listener,) = descriptors
            with self._was_told:
                self.states.append(json.loads(data))
                self._was_told.notify_all()
            self._run(self._attend, listener)

    def _attend(self, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while True:
                ((_, events),) = poll.poll()
                if not events & select.POLLIN:
                    return  # nobody is under the filter any more
                self._answer(listener)
        finally:
            os.close(listener)

    def _answer(self, listener: int) -> None:
        notification = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notification)
            identity, _, _, number, *_ = _NOTIFICATION.unpack(notification)
            self.calls.append(number)
            answer = self._answers.get(number)
            error, flags = (0, _CONTINUE) if answer is None else (min(answer, 0), 0)
            fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(identity, max(answer or 0, 0), error, flags)))
        except FileNotFoundError:
            return  # the caller was killed meanwhile
