"""--pid-file: nobody sees half of it, and it is there only where there is a process to deal with."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_lab import TIMEOUT_S, Line

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
LIBC = ctypes.CDLL(None, use_errno=True)


class Watched:
    """A directory, and what happens to a file of it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.file = directory / "pid"
        self._descriptor = LIBC.inotify_init1(os.O_CLOEXEC)
        assert LIBC.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_MODIFY | IN_MOVED_TO | IN_CREATE) > 0

    def await_events(self) -> list[int]:
        """What has happened to it, as soon as something has."""
        found: list[int] = []
        while not found:
            assert select.select([self._descriptor], [], [], TIMEOUT_S)[0]
            found = self.events()
        return found

    def events(self) -> list[int]:
        """What has happened to it by now."""
        found = []
        while select.select([self._descriptor], [], [], 0)[0]:
            data = os.read(self._descriptor, 65536)
            while data:
                mask, length = struct.unpack_from("4xI4xI", data)
                print(hex(mask), data[16:16 + length])
                found += [mask] if data[16:16 + length].rstrip(b"\0") == b"pid" else []
                data = data[16 + length:]
        return found

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def watched(line: Line) -> Iterator[Watched]:
    made = Watched(line.lab.directory / "watched")
    yield made
    made.close()


def words_of(line: Line, command: str, pid_file: Path, args: list[str]) -> list[str]:
    """Of a command that makes p1, or a process in it."""
    if command.startswith("exec"):
        line.detach("run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"]), "p1")
        return [*command.split(), "--pid-file", str(pid_file), "p1", *args]
    return [*command.split(), "--bundle", line.lab.bundle(args), "--pid-file", str(pid_file), "p1"]


def quietly(line: Line, words: list[str]) -> subprocess.Popen[bytes]:
    """With the null device for what outlives the command."""
    return subprocess.Popen(line.arguments(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(pid: int) -> None:
    """Kill it, and return once it has ended."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    os.close(pidfd)


@pytest.mark.conformance(57)
@pytest.mark.parametrize("command", ["create", "run --detach", "run", "exec --detach", "exec"])
def test_whoever_waits_for_it_can_use_it(line: Line, watched: Watched, command: str) -> None:
    """It appears whole and last: what is created can be started then, what is run or executed runs. First by Python, then by the front end."""
    words = words_of(line, command, watched.file, ["/bin/sleep", "1000"])
    for _ in ("python", "front end"):
        with quietly(line, words) as made:
            assert watched.await_events() == [IN_MOVED_TO]
            pid = int(watched.file.read_text())
            executed = os.readlink(f"/proc/{pid}/exe").endswith("busybox")
            assert executed == (command != "create") and watched.file.stat().st_mode & 0o777 == 0o644
            if command == "create":
                line.succeed("start", "p1")
                assert line.status() == "running"
            if command in ("run", "exec", "exec --detach"):
                end(pid)
            assert made.wait(TIMEOUT_S) == (0 if command in ("create", "run --detach", "exec --detach") else 137)
        assert [path.name for path in watched.file.parent.iterdir()] == ["pid"]
        watched.file.unlink()
        if command in ("create", "run --detach"):
            line.succeed("delete", "--force", "p1")
    if command.startswith("exec"):
        line.succeed("delete", "--force", "p1")
    assert line.succeed("list", "-q") == ""


@pytest.mark.parametrize("command", ["run", "run --detach"])
def test_a_start_that_fails_leaves_none(line: Line, watched: Watched, command: str) -> None:
    """At first by Python, then by the front end with a plan that is kept. As with runc, as far as that hears of a failure: it does not wait for
    the execution, and so has told of a process that is gone where only that fails."""
    program = line.lab.rootfs / "bin" / "program"
    bundle = line.lab.bundle(["/bin/program"])
    words = [*command.split(), "--bundle", bundle, "--pid-file", str(watched.file), "p1"]
    for is_kept in (False, True):
        if is_kept:
            program.write_text("#!/bin/sh\nexit 0\n")
            program.chmod(0o755)
            line.detach(*words)
            watched.file.unlink()
            if command == "run --detach":
                line.succeed("delete", "--force", "p1")
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        assert line.fail(*words).startswith("execute program '/bin/program' ($.process.args): exec /bin/program: no such file or directory, ")
        assert list(watched.file.parent.iterdir()) == [] and line.succeed("list", "-q") == ""
    program.unlink()
    runc = ["runc", "--root", str(line.lab.directory / "runc"), *words[:-1], "pyruntime-pid-file"]
    assert subprocess.run(runc, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIMEOUT_S).returncode == 1
    assert line.fail(*words).endswith("ENOENT: no such file or directory")
    assert list(watched.file.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["create", "run --detach", "run", "exec --detach", "exec"])
def test_one_that_cannot_be_put_in_its_place(line: Line, watched: Watched, command: str) -> None:
    """Is the error, and nothing is left of what it was to tell. At first by Python, then by the front end."""
    code = 255 if "exec" in command else 1
    words = words_of(line, command, watched.file, ["/bin/sleep", "1000"])
    watched.file.mkdir()
    for is_kept in (False, True):
        if is_kept:
            watched.file.rmdir()
            watched.events()
            with quietly(line, words) as made:
                watched.await_events()
                if command in ("run", "exec", "exec --detach"):
                    end(int(watched.file.read_text()))
                assert made.wait(TIMEOUT_S) in (0, 137)
            if command in ("create", "run --detach"):
                line.succeed("delete", "--force", "p1")
            watched.file.unlink()
            watched.file.mkdir()
        records = sorted(line.lab.root.glob("p1/process-*"))  # also of what was detached, as long as nobody forgets it
        assert line.fail(*words, code=code) == f"write pid file '{watched.file}': EISDIR: is a directory"
        assert [path.name for path in watched.file.parent.iterdir()] == ["pid"] and list(watched.file.iterdir()) == []
        if "exec" in command:
            assert len(json.loads(line.succeed("ps", "--format", "json", "p1"))) == 1
            assert sorted(line.lab.root.glob("p1/process-*")) == records
    if "exec" in command:
        line.succeed("delete", "--force", "p1")
    assert line.succeed("list", "-q") == ""
