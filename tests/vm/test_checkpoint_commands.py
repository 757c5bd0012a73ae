"""The commands `checkpoint` and `restore`, as engines call them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest
from counting import COUNTER
from lab import Lab

COMMAND = f"{sysconfig.get_path('scripts')}/pyruntime"


class Line:
    """The command on the lab's root, with a file as its standard output."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.output = lab.directory / "output"
        self.image = str(lab.directory / "image")

    def __call__(self, *arguments: str, input: str = "", code: int = 0) -> str:
        """What it has written to standard error."""
        with self.output.open("ab") as out:
            ended = subprocess.run([COMMAND, "--root", str(self.lab.root), *arguments], stdout=out, stderr=subprocess.PIPE, text=True,
                                   check=False, input=input, timeout=120)
        assert ended.returncode == code, ended
        return ended.stderr

    def detach(self, *arguments: str) -> None:
        """What outlives the command has the file as its output, and nothing else of the test's."""
        with self.output.open("ab") as out:
            subprocess.run([COMMAND, "--root", str(self.lab.root), *arguments], stdin=subprocess.DEVNULL, stdout=out,
                           stderr=subprocess.DEVNULL, check=True, timeout=120)

    def numbers(self, more: int = 3) -> list[int]:
        """Once there are so many more."""
        size = self.output.stat().st_size
        while self.output.stat().st_size < size + 4 * more:
            os.sched_yield()
        return [int(line) for line in self.output.read_text().split()]


@pytest.fixture
def line(lab: Lab) -> Iterator[Line]:
    yield Line(lab)


def start(line: Line, script: str = COUNTER, **changes: Any) -> str:
    """A container whose streams outlive the command; its bundle."""
    bundle = line.lab.bundle(script, **changes)
    line.detach("run", "--detach", "--bundle", bundle, "p1")
    return bundle


def test_commands(line: Line) -> None:
    bundle = start(line)
    line.numbers()
    line("checkpoint", "--image-path", line.image, "--leave-running", "--file-locks", "--tcp-established", "p1")
    line.numbers()
    shutil.rmtree(line.image)
    line("checkpoint", "--image-path", line.image, "--work-path", str(line.lab.directory / "work"), "--manage-cgroups-mode", "ignore", "p1")
    assert "container 'p1' does not exist" in line("state", "p1", code=1)
    before = [int(text) for text in line.output.read_text().split()]
    pid_file = line.lab.directory / "pid"
    line.detach("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "--pid-file", str(pid_file), "--no-pivot",
                "--no-subreaper", "--manage-cgroups-mode", "ignore", "p1")
    assert line.lab.runtime.get_container_state("p1").pid == int(pid_file.read_text())
    after = line.numbers()
    assert after == list(range(1, len(after) + 1)) and len(after) > len(before)
    line("delete", "--force", "p1")


def test_restore_in_the_foreground(line: Line) -> None:
    """Its exit code is the command's; it is deleted then."""
    bundle = start(line, "i=0; while [ ! -e /dev/shm/end ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 6")
    line.numbers()
    line("exec", "p1", "true")
    line("checkpoint", "--image-path", line.image, "p1")
    process = subprocess.Popen([COMMAND, "--root", str(line.lab.root), "restore", "--bundle", bundle, "--image-path", line.image, "p1"],
                               stdin=subprocess.DEVNULL, stdout=line.output.open("ab"), stderr=subprocess.PIPE)
    line.numbers()
    line("exec", "p1", "touch", "/dev/shm/end")
    assert process.wait(60) == 6 and process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()
    assert not line.lab.runtime.container_exists("p1")


def test_restore_to_a_console_socket(line: Line) -> None:
    path = str(line.lab.directory / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        bundle = line.lab.bundle("stty -echo; while read word; do echo $word; done", process={"terminal": True})
        line("run", "--detach", "--bundle", bundle, "--console-socket", path, "p1")
        first = receive(listener)
        line("checkpoint", "--image-path", line.image, "p1")
        assert "there is no --console-socket" in line("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "p1", code=1)
        assert not line.lab.runtime.container_exists("p1")
        line("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "--console-socket", path, "p1")
        second = receive(listener)
    os.write(second, b"typed\n")
    assert os.read(second, 100) == b"typed\r\n"
    line("delete", "--force", "p1")
    os.close(first)
    os.close(second)


def receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        name, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
    assert name.startswith(b"/dev/pts/")
    return descriptors[0]
