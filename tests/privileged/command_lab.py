"""The real command on real containers."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

import pyruntime

# that of the package, which under sanitizers is another one than that of the virtual environment
SCRIPTS = Path(pyruntime.__file__).parents[1] / "bin" if os.environ.get("PYRUNTIME_SANITIZED") else Path(sysconfig.get_path("scripts"))
COMMAND = str(SCRIPTS / "pyruntime")
TIMEOUT_S = 30


class Line:
    """The command line on the lab's root."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.log = lab.directory / "log"

    def arguments(self, *arguments: str) -> list[str]:
        return [COMMAND, "--root", str(self.lab.root), "--log", str(self.log), "--log-format", "json", *arguments]

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"stdin": subprocess.DEVNULL, **options} if "input" not in options else options
        return subprocess.run(self.arguments(*arguments), capture_output=True, text=True, check=False, timeout=TIMEOUT_S, **options)

    def succeed(self, *arguments: str, **options: Any) -> str:
        ended = self(*arguments, **options)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return str(ended.stdout)

    def detach(self, *arguments: str) -> None:
        """Succeed, with the null device for what outlives the command."""
        assert subprocess.run(self.arguments(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False, timeout=TIMEOUT_S).returncode == 0, self.log.read_text()

    def fail(self, *arguments: str, code: int = 1, **options: Any) -> str:
        """The one error, which is told to people and logged alike."""
        self.log.unlink(missing_ok=True)
        ended = self(*arguments, **options)
        assert ended.returncode == code, ended
        (record,) = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert record["level"] == "error" and ended.stderr == f"pyruntime: {record['msg']}\n"
        return str(record["msg"])

    def status(self, id: str = "p1") -> str:
        return str(json.loads(self.succeed("state", id))["status"])


def receive(listener: socket.socket) -> tuple[bytes, int]:
    connection, _ = listener.accept()
    with connection:
        name, data, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    return name, array.array("i", data[0][2])[0]


@pytest.fixture
def line(lab: Lab) -> Line:
    return Line(lab)


@pytest.fixture
def service(line: Line) -> Iterator[Line]:
    """A running container p1; its init becomes the tests' orphan, and is waited for."""
    line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"]), "p1")
    yield line
    line.succeed("delete", "--force", "p1")
