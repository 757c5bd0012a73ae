"""MockRuntime beyond the contract: what programs are given, and what they can do."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import struct
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from pyruntime import MockRuntime, StdioOptions
from pyruntime.errors import SetupError
from pyruntime.interface import Runtime, Status
from pyruntime.runtimes.mock_programs import MockProcess, Program
from pyruntime.testing import HostSnapshot, default_config, make_bundle

OUT = StdioOptions(create_out=True)


class Lab:
    """Containers of one runtime, in a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, program: Program | None, args: list[str] | None = None, stdio: StdioOptions = StdioOptions(),
            **changes: Any) -> tuple[MockRuntime, int]:
        """A started container c1 that runs `program` under the name `app`."""
        runtime = MockRuntime(programs={"app": program} if program else {})
        bundle = make_bundle(self.directory / "bundle", args or ["/bin/app"], **changes)
        pid = runtime.create_container("c1", str(bundle), stdio)
        runtime.start_container("c1")
        return runtime, pid


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def read_all(runtime: MockRuntime, pid: int) -> bytes:
    out = runtime.get_stdio_pipes("c1", pid).out
    assert out is not None
    data = b""
    while more := out.read(4096):
        data += more
    return data


def test_program_sees_what_was_asked_for(lab: Lab) -> None:
    def app(process: MockProcess) -> None:
        process.write(f"{process.pid} {process.args} {process.env['NAME']} {process.cwd} {process.terminal}")

    runtime, pid = lab.run(app, ["/usr/bin/app", "x"], OUT, process={"env": ["NAME=a=b"], "cwd": "/tmp"})
    assert read_all(runtime, pid).decode() == f"{pid} ['/usr/bin/app', 'x'] a=b /tmp False"
    assert runtime.wait_on_container("c1").exit_code == 0
    assert pid > 4194304  # not one of the host's


def test_path_goes_before_name(tmp_path: Path) -> None:
    runtime = MockRuntime(programs={"app": lambda process: 1, "/opt/app": lambda process: 2})
    for path, code in (("app", 1), ("/usr/bin/app", 1), ("/opt/app", 2)):
        bundle = make_bundle(tmp_path / str(len(path)), [path])
        runtime.create_container("c1", str(bundle), OUT)
        runtime.start_container("c1")
        assert runtime.wait_on_container("c1").exit_code == code
        runtime.delete_container("c1")


def test_program_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(SetupError, match="no such program") as raised:
        lab.run(lambda process: 0, ["/somewhere/app"])
    assert (raised.value.step, raised.value.path) == ("execute program", "/somewhere/app")


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("exit", 0), ("true", 0), ("/bin/false", 1), ("a | b", 127)])
def test_shell(lab: Lab, script: str, code: int) -> None:
    runtime, _ = lab.run(None, ["/bin/sh", "-c", script])
    assert runtime.wait_on_container("c1").exit_code == code


def test_defect_in_a_program_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def app(process: MockProcess) -> None:
        raise RuntimeError("defect")

    with caplog.at_level(logging.ERROR, "pyruntime"):
        runtime, _ = lab.run(app)
        assert runtime.wait_on_container("c1").exit_code == 1
    assert "RuntimeError: defect" in caplog.text


def test_signals(lab: Lab) -> None:
    def app(process: MockProcess) -> int:
        seen: list[int] = []
        process.on_signal(signal.SIGUSR1, lambda: seen.append(signal.SIGUSR1))
        process.write("ready")
        while not seen:
            process.sleep(0.01)
        process.write("seen")
        process.sleep()
        return 0

    runtime, pid = lab.run(app, stdio=OUT)
    out = runtime.get_stdio_pipes("c1", pid).out
    assert out is not None
    assert out.read(100) == b"ready"
    runtime.kill_container("c1", 0)
    runtime.kill_container("c1", signal.SIGCHLD)  # ignored by default
    runtime.kill_container("c1", signal.SIGUSR1)
    assert out.read(100) == b"seen"
    runtime.kill_container("c1", signal.SIGTERM)
    exit_state = runtime.wait_on_container("c1")
    assert (exit_state.exit_code, exit_state.signal) == (143, signal.SIGTERM)


def test_closed_pipe_ends_a_writer(lab: Lab) -> None:
    def app(process: MockProcess) -> None:
        while True:
            process.write(b"x" * 100000)

    runtime, pid = lab.run(app, stdio=OUT)
    out = runtime.get_stdio_pipes("c1", pid).out
    assert out is not None
    out.close()
    assert runtime.wait_on_container("c1").signal == signal.SIGPIPE


def test_killed_while_it_reads(lab: Lab) -> None:
    runtime, pid = lab.run(None, ["/bin/cat"], StdioOptions(create_in=True, create_out=True))
    runtime.kill_container("c1", signal.SIGKILL)
    assert runtime.wait_on_container("c1").exit_code == 137
    assert read_all(runtime, pid) == b""


def test_paused_program_waits(lab: Lab) -> None:
    def app(process: MockProcess) -> int:
        process.write("before")
        process.read(1)
        return 4

    runtime, pid = lab.run(app, stdio=StdioOptions(create_in=True, create_out=True))
    pipes = runtime.get_stdio_pipes("c1", pid)
    assert pipes.in_ is not None and pipes.out is not None
    assert pipes.out.read(100) == b"before"
    runtime.pause_container("c1")
    runtime.kill_container("c1", signal.SIGTERM)
    pipes.in_.write(b"x")
    assert runtime.get_container_state("c1").status == Status.PAUSED
    runtime.resume_container("c1")
    assert runtime.wait_on_container("c1").signal == signal.SIGTERM


@pytest.mark.parametrize("shared", [False, True])
def test_children(lab: Lab, shared: bool) -> None:
    ready = threading.Event()

    def app(process: MockProcess) -> int:
        process.spawn(["/bin/sleep", "1000"])
        assert process.spawn(["/bin/false"]).wait().exit_code == 1
        ready.set()
        process.read()
        return 6

    namespaces = [namespace for namespace in default_config()["linux"]["namespaces"]
                  if namespace["type"] != "pid" or not shared]
    runtime, pid = lab.run(app, stdio=StdioOptions(create_in=True), linux={"namespaces": namespaces})
    assert ready.wait(10)
    processes = runtime.get_running_container_processes("c1")
    assert [(process.command, process.created_by_runtime) for process in processes] == [
        (["/bin/app"], True), (["/bin/sleep", "1000"], False)]
    in_ = runtime.get_stdio_pipes("c1", pid).in_
    assert in_ is not None
    in_.close()
    assert runtime.wait_on_container("c1").exit_code == 6
    assert runtime.get_all_container_processes("c1") == []


def test_terminal(lab: Lab) -> None:
    def app(process: MockProcess) -> int:
        assert os.isatty(process.stdin) and os.isatty(process.stdout) and process.terminal
        process.write("ready\n")
        process.read()
        height, width, *_ = struct.unpack("=4H", fcntl.ioctl(process.stdin, termios.TIOCGWINSZ, bytes(8)))
        return int(width - height)

    runtime, pid = lab.run(app, process={"terminal": True})
    pipes = runtime.get_stdio_pipes("c1", pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is None
    assert pipes.out.read(5) + pipes.out.read(2) == b"ready\r\n"  # a terminal may give its newline later
    runtime.resize_console("c1", pid, width=100, height=42)
    pipes.in_.write(b"\n")
    assert runtime.wait_on_container("c1").exit_code == 58


def test_roots(tmp_path: Path) -> None:
    bundle = str(make_bundle(tmp_path / "bundle", ["/bin/true"]))
    first, second, other = MockRuntime(str(tmp_path)), MockRuntime(str(tmp_path)), MockRuntime()
    first.create_container("c1", bundle, OUT)
    assert second.container_exists("c1") and not other.container_exists("c1")
    assert not (tmp_path / "c1").exists()
    second.delete_container("c1", force=True)
    assert not first.container_exists("c1")
    assert isinstance(other, Runtime)


def test_nothing_is_left(lab: Lab) -> None:
    gc.collect()  # what earlier tests dropped is not to be closed in between
    before = HostSnapshot.take()
    threads = set(threading.enumerate())
    runtime, _ = lab.run(None, ["/bin/sleep", "1000"], StdioOptions(True, True, True))
    runtime.exec_process("c1", {"args": ["cat"], "cwd": "/"}, StdioOptions(True, True, True))
    runtime.delete_container("c1", force=True)
    assert HostSnapshot.take().descriptors == before.descriptors
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive()
