"""A client of the streams that the CRI gives an address of, as `kubectl exec` and `attach` use them: channels in one WebSocket
(RFC 6455), each message beginning with the channel's number."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import urllib.parse
from collections import defaultdict
from typing import Any

from engine import COMMAND_TIMEOUT_S

STDIN, STDOUT, STDERR, RESULT, SIZE = range(5)
_PROTOCOL = "v4.channel.k8s.io"
_BINARY, _CLOSE = 2, 8


class Stream:
    def __init__(self, address: str) -> None:
        url = urllib.parse.urlsplit(address)
        assert url.hostname is not None
        self._socket = socket.create_connection((url.hostname, url.port), COMMAND_TIMEOUT_S)
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        lines = [f"GET {url.path} HTTP/1.1", f"Host: {url.netloc}", f"Origin: {url.scheme}://{url.netloc}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {_PROTOCOL}"]
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        while self._file.readline().strip():
            pass
        assert b" 101 " in status, status
        self._received: defaultdict[int, bytes] = defaultdict(bytes)

    def send(self, channel: int, data: bytes) -> None:
        """A short message. Those of clients are masked; here with zeros, which change nothing."""
        assert len(data) < 125
        self._socket.sendall(struct.pack("!BBI", 0x80 | _BINARY, 0x80 | len(data) + 1, 0) + bytes([channel]) + data)

    def resize(self, columns: int, rows: int) -> None:
        self.send(SIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def finish(self) -> tuple[bytes, bytes, int]:
        """Standard output, standard error and exit code, once the process has ended."""
        while self._receive():
            pass
        self.close()
        return self._received[STDOUT], self._received[STDERR], _exit_code(json.loads(self._received[RESULT]))

    def await_output(self, text: bytes) -> None:
        while text not in self._received[STDOUT]:
            assert self._receive(), dict(self._received)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _receive(self) -> bool:
        """Until the server closes."""
        header = self._file.read(2)
        if len(header) < 2 or header[0] & 0xf == _CLOSE:
            return False
        length = header[1]
        if length > 125:
            form = "!H" if length == 126 else "!Q"
            length, = struct.unpack(form, self._file.read(struct.calcsize(form)))
        message = self._file.read(length)
        if header[0] & 0xf == _BINARY and message:
            self._received[message[0]] += message[1:]
        return True


def _exit_code(status: dict[str, Any]) -> int:
    """Of the Status object of Kubernetes that ends an exec."""
    if status["status"] == "Success":
        return 0
    return next(int(cause["message"]) for cause in status["details"]["causes"] if cause["reason"] == "ExitCode")
