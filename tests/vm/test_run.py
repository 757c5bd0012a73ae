"""The runner itself: what it passes on, what it returns, and that it changes nothing here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run.py")


def vm(*command: str, options: tuple[str, ...] = (), cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    # the files of this program are seen inside, those below /tmp are not
    return subprocess.run([sys.executable, RUNNER, *options, *command], capture_output=True, check=False, timeout=100, cwd=cwd)


def left_behind() -> set[str]:
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line for line in processes if line.startswith(("qemu-system", "/usr/lib/qemu/virtiofsd"))} | {
        name for name in os.listdir("/var/tmp") if name.startswith("pyruntime-vm-")}


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    before = left_behind()
    yield
    assert left_behind() <= before


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("exit 124", 124), ("exit 255", 255)])
def test_exact_status(script: str, status: int) -> None:
    ended = vm("sh", "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", b"")


def test_output_is_exact_also_where_it_looks_like_the_end() -> None:
    text = bytes(range(256)) * 400 + b"\0" + b"0" * 32 + b"\0\0"
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 400 + b'\\0' + b'0' * 32 + b'\\0\\0')"
    ended = vm("python3", "-c", script)
    assert (ended.returncode, ended.stdout) == (0, text)


def test_output_comes_at_once() -> None:
    with subprocess.Popen([sys.executable, RUNNER, "sh", "-c", "echo first; sleep 1000"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("options", [(), ("--systemd",)])
def test_what_the_command_finds(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("here")  # also below /tmp the current directory is seen
    (directory / "file").write_text("of this machine\n")
    script = ("cat file; echo changed >file; rm -f /etc/passwd /usr/bin/env; id -u; stat -fc %T /sys/fs/cgroup; test -b /dev/vda && "
              "echo disk; cat /proc/1/comm; touch /new; ulimit -Hn")
    ended = vm("sh", "-c", script, options=options, cwd=directory)
    first = "systemd" if options else "sh"
    assert ended.stdout.decode().splitlines() == ["of this machine", "0", "cgroup2fs", "disk", first, "1048576"], ended.stderr.decode()
    assert (directory / "file").read_text() == "of this machine\n"
    assert Path("/etc/passwd").exists() and Path("/usr/bin/env").exists() and not Path("/new").exists()


def test_time_that_is_over() -> None:
    begin = time.monotonic()
    ended = vm("sleep", "1000", options=("--timeout", "12"))
    assert ended.returncode == 124 and b"the time is over" in ended.stderr
    assert time.monotonic() - begin < 30


def test_a_machine_that_fails_under_the_command() -> None:
    """It is not started again: the command has begun."""
    ended = vm("sh", "-c", "echo begun; echo b >/proc/sysrq-trigger; sleep 1000")
    assert (ended.returncode, ended.stdout) == (125, b"begun\n")
    assert ended.stderr.startswith(b"the virtual machine ended before the command\n")


def test_a_machine_that_does_not_boot() -> None:
    ended = vm("true", options=("--parameters", "rdinit=/none root=/none"))
    assert ended.returncode == 125 and ended.stderr.count(b"starting it again") == 3 and b"panic" in ended.stderr
