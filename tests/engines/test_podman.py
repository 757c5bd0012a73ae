"""podman and conmon, with this runtime and with crun."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, Engine
from journey import Journey
from podman import RUNTIMES, with_runtime

pytestmark = pytest.mark.privileged
SAYS = Path(__file__).parents[1] / "says/says.c"


@contextlib.contextmanager
def null_device(may_change: bool) -> Iterator[None]:
    """The host's is the container's standard input, and has its owner afterwards."""
    before = os.stat("/dev/null")
    try:
        yield
    finally:
        after = os.stat("/dev/null")
        os.chown("/dev/null", before.st_uid, before.st_gid)
    assert may_change or (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


class TestPodman(Journey):
    """Debian's."""

    def test_the_error_is_the_runtimes(self, engine: Engine) -> None:
        """What podman says comes out of the runtime's log, and not from what it has printed."""
        ended = engine.run("--rm", "box", "no-such-program")
        assert "OCI runtime attempted to invoke a command that was not found" in ended.err
        assert "pyruntime: pyruntime:" not in ended.err

    def test_exec_of_what_is_missing(self, engine: Engine) -> None:
        id = engine.run("-d", "box", "sleep", "1000").out
        assert [engine("exec", id, program).code for program in ("no-such-program", "/etc/not-executable")] == [127, 126]
        engine.succeed("rm", "-f", "-t", "0", id)

    def test_tmpfs_with_what_the_image_has(self, engine: Engine) -> None:
        """podman asks for tmpcopyup by itself, and for a tmpfs in each directory that a read-only container may write to."""
        ended = engine.run("--rm", "--tmpfs", "/etc:rw,size=1m", "--read-only", "box", "sh", "-c",
                           "cat /etc/passwd; echo more >>/etc/passwd && cat /etc/passwd | grep more; touch /tmp/new && ls /tmp; "
                           "touch /new 2>/dev/null || echo refused")
        assert (ended.code, ended.out.splitlines()) == (0, ["root:x:0:0:root:/:/bin/sh", "more", "new", "refused"]), ended

    def test_mapped_volume(self, engine: Engine, volume: str) -> None:
        """What the host's root has is the container's root's, in a user namespace."""
        mapping = ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"]
        script = "stat -c %u:%g /volume/file"
        # Debian's crun gives it to the container's root
        with null_device(may_change="crun" in engine.command):
            assert engine.run("--rm", *mapping, "-v", f"{volume}:/volume", "box", "sh", "-c", script).out == "65534:65534"
            ended = engine.run("--rm", *mapping, "-v", f"{volume}:/volume:idmap", "box", "sh", "-c", script)
        assert (ended.code, ended.out) == (0, "0:0"), ended

    def test_stated_properties_of_the_unit(self, engine: Engine) -> None:
        """Newer ones than Debian's state these two by themselves; where there is no unit they mean nothing."""
        stated = ("org.systemd.property.KillSignal=37", "org.systemd.property.TimeoutStopUSec=uint64 12000000")
        id = engine.run("-d", *(word for each in stated for word in ("--annotation", each)), "box", "sleep", "1000").out.splitlines()[-1]
        if CGROUP_DRIVER == "systemd":
            shown = subprocess.run(["systemctl", "show", "-pKillSignal", "-pTimeoutStopUSec", f"libpod-{id}.scope"], check=True,
                                   capture_output=True, text=True).stdout
            assert set(shown.split()) == {"KillSignal=37", "TimeoutStopUSec=12s"}
        engine.succeed("rm", "-f", "-t", "0", id)

    def test_a_service_that_says_that_it_is_ready(self, engine: Engine, tmp_path: Path) -> None:
        """podman has the runtime pass that on, and waits for it."""
        program = tmp_path / "says"
        subprocess.run(["musl-gcc", "-Os", "-static", "-o", program, SAYS], check=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "manager"))
            manager.settimeout(COMMAND_TIMEOUT_S)
            notified = Engine(engine.command, {**engine.environment, "NOTIFY_SOCKET": str(tmp_path / "manager")}, engine.run_options)
            ended = notified.run("-d", "--sdnotify=container", "-v", f"{program}:/bin/says", "box", "sh", "-c", "says READY=1; exec sleep 1000")
            assert ended.code == 0, ended
            heard = b""
            while b"READY=1" not in heard.split(b"\n"):
                heard += manager.recv(4096) + b"\n"
        engine.succeed("rm", "-f", "-t", "0", ended.out)

    def test_version(self, engine: Engine) -> None:
        version = engine.succeed("info", "--format", "{{.Host.OCIRuntime.Version}}")
        assert f"{engine.command[-1]} version " in version and "spec: " in version
