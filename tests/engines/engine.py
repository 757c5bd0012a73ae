"""Real engines with directories of their own, and what they are asked to do with a runtime."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from image import make_tree

PYRUNTIME = f"{sysconfig.get_path('scripts')}/pyruntime"
COMMAND_TIMEOUT_S = 120  # also in a virtual machine
# engines' own choice on such a host
CGROUP_DRIVER = "systemd" if os.path.isdir("/run/systemd/system") else "cgroupfs"


def require(*programs: str) -> None:
    """A failure, unless PYRUNTIME_ALLOW_MISSING=1 outside of CI makes it a skip."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("PYRUNTIME_ALLOW_MISSING") == "1" and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)} (make test-packages)")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Its value, once it is true; for what engines tell of by no event."""
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.03)
    return value


class Ended:
    """How a command of an engine ended."""

    def __init__(self, ended: subprocess.CompletedProcess[str]) -> None:
        self.code = ended.returncode
        self.out = ended.stdout.strip()
        self.err = ended.stderr.strip()

    def __repr__(self) -> str:
        return f"exit code {self.code}, output {self.out!r}, errors {self.err!r}"


class Engine:
    """An engine's client.

    command       the program and its global options
    environment   what it needs besides PATH
    run           options for `run`: the runtime, and what this machine needs
    """

    def __init__(self, command: list[str], environment: dict[str, str], run: list[str]) -> None:
        self.command = command
        self.run_options = list(run)
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm", **environment}

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ended:
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return self._call([*self.command, *arguments], **source)

    def succeed(self, *arguments: str) -> str:
        """Its output."""
        ended = self(*arguments)
        assert ended.code == 0, f"{arguments}: {ended}"
        return ended.out

    def run(self, *arguments: str, stdin: str | None = None) -> Ended:
        """`run`, with the options that every container of the tests has."""
        return self("run", *self.run_options, *arguments, stdin=stdin)

    def in_terminal(self, *arguments: str) -> Ended:
        """With a terminal as its standard streams, of 50 columns and 20 rows. Nothing is typed, and its input does not end: podman's client
        ends with it, and may show nothing of the output then, with any runtime."""
        line = shlex.join((*self.command, *arguments))
        silent, keeps_open = os.pipe()
        with os.fdopen(silent), os.fdopen(keeps_open, "w"):
            return self._call(["script", "-qec", f"stty cols 50 rows 20; {line}", "/dev/null"], stdin=silent)

    def _call(self, line: list[str], **source: Any) -> Ended:
        return Ended(subprocess.run(line, capture_output=True, text=True, check=False, env=self.environment,
                                    timeout=COMMAND_TIMEOUT_S, **source))

    def await_output(self, container: str, text: str) -> None:
        """Until the container's log has the text. An engine tells of no event that it was written."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while text not in (found := self.succeed("logs", container)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


def import_image(engine: Engine, directory: Path) -> None:
    """An image `box` of a static busybox."""
    rootfs = make_tree(directory / "rootfs")
    archive = directory / "rootfs.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
    engine.succeed("import", str(archive), "box")
    archive.unlink()
    shutil.rmtree(rootfs)


@contextlib.contextmanager
def daemon(line: list[str], directory: Path, listens: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon, from the moment that it accepts connections; its output is in the directory. It may have been killed when it is to end."""
    log = directory / f"{Path(line[0]).name}.log"
    with log.open("a") as output:
        process = subprocess.Popen(line, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while not _accepts(listens):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(COMMAND_TIMEOUT_S)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def leaving_no_files(*paths: str) -> Iterator[None]:
    """Remove what an engine makes at fixed places and cannot be told not to, unless it is there already."""
    new = [path for path in map(Path, paths) if not path.exists()]
    yield
    for path in new:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def unmount_below(directory: Path) -> None:
    """What a daemon leaves mounted when it ends: its root, and the host's network namespace."""
    with open("/proc/self/mountinfo") as mounts:
        points = [line.split()[4] for line in mounts]
    for point in reversed(points):
        if point.startswith(f"{directory}/"):
            subprocess.run(["umount", point], check=True)


def remove_cgroups(*names: str) -> None:
    """Parents of the containers' cgroups, in every hierarchy; what others have put something into stays."""
    for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        for name in names:
            with contextlib.suppress(OSError):
                (hierarchy / name).rmdir()
