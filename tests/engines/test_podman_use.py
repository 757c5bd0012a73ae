"""What podman does with a container that runs: streams that are attached, files copied, what it uses, health, an init in it."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, Engine, require, until
from image import make_tree
from journey import limits_of
from podman import RUNTIMES, remove, with_runtime

pytestmark = pytest.mark.privileged
ECHO = "echo ready; while read line; do [ \"$line\" = end ] && exit 7; echo \"heard $line\"; done"


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


@pytest.fixture
def running(engine: Engine) -> Iterator[str]:
    """A container that sleeps, of 64 MiB; its id."""
    id = engine.succeed("run", "-d", *engine.run_options, "--memory=64m", "--pids-limit=50", "box", "sleep", "1000")
    yield id
    remove(engine, id)


class Attached:
    """A client whose streams are read and written here; with a terminal they are one."""

    def __init__(self, engine: Engine, *arguments: str, has_terminal: bool) -> None:
        line = [*engine.command, *arguments]
        if has_terminal:
            self.own, other = pty.openpty()
            self.process = subprocess.Popen(line, stdin=other, stdout=other, stderr=other, env=engine.environment, start_new_session=True)
            os.close(other)
            self.out = self.own
        else:
            self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=engine.environment)
            assert self.process.stdin is not None and self.process.stdout is not None
            self.own, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.heard = b""

    def write(self, data: bytes) -> None:
        os.write(self.own, data)

    def press(self, keys: bytes) -> None:
        """One after the other: podman takes only those for detaching that it reads alone."""
        counters = Path(f"/proc/{self.process.pid}/io")
        for key in keys:
            before = counters.read_text().splitlines()[0]
            os.write(self.own, bytes([key]))
            until(lambda before=before: self.process.poll() is not None or counters.read_text().splitlines()[0] != before,  # type: ignore[misc]
                  "the client has read the key")

    def await_text(self, text: bytes) -> None:
        while text not in self.heard:
            ready, _, _ = select.select([self.out], [], [], COMMAND_TIMEOUT_S)
            assert ready, self.heard
            chunk = os.read(self.out, 65536)
            assert chunk, self.heard
            self.heard += chunk

    def end(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(COMMAND_TIMEOUT_S)
        finally:
            self.process.kill()


class TestAttach:
    def test_streams(self, engine: Engine) -> None:
        id = engine.succeed("run", "-d", "-i", *engine.run_options, "box", "sh", "-c", ECHO)
        engine.await_output(id, "ready")
        client = Attached(engine, "attach", id, has_terminal=False)
        client.write(b"first\n")
        client.await_text(b"heard first\n")
        client.write(b"end\n")
        assert (client.end(), engine.succeed("wait", id)) == (0, "7")
        assert engine.succeed("logs", id).splitlines() == ["ready", "heard first"]
        engine.succeed("rm", id)

    def test_terminal_and_detaching(self, engine: Engine) -> None:
        id = engine.succeed("run", "-d", "-it", *engine.run_options, "box", "sh", "-c", f"stty size; {ECHO}")
        engine.await_output(id, "ready")
        for keys, options in ((b"\x10\x11", ()), (b"\x18", ("--detach-keys=ctrl-x",))):
            client = Attached(engine, "attach", *options, id, has_terminal=True)
            client.write(b"word\n")
            client.await_text(b"heard word\r\n")
            client.press(keys)
            assert client.end() == 0, client.heard
            assert engine.succeed("inspect", "-f", "{{.State.Status}}", id) == "running"
        client = Attached(engine, "attach", id, has_terminal=True)
        client.write(b"end\n")
        assert (client.end(), engine.succeed("wait", id)) == (0, "7")
        engine.succeed("rm", id)


def test_copies(engine: Engine, running: str, tmp_path: Path) -> None:
    """Into a running container and a stopped one, and out of both: files, their modes, a directory, what is on a tmpfs of it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("into\n")
    (tmp_path / "in/file").chmod(0o640)
    engine.succeed("exec", running, "sh", "-c", "mkdir /out; echo out of >/out/file; ln -s file /out/link; chmod 600 /out/file")
    engine.succeed("cp", f"{tmp_path}/in", f"{running}:/tmp/copied")
    engine.succeed("cp", f"{tmp_path}/in/file", f"{running}:/dev/shm/file")
    seen = engine.succeed("exec", running, "sh", "-c", "stat -c '%a %u %n' /tmp/copied/file /dev/shm/file; cat /tmp/copied/file /dev/shm/file")
    assert seen.splitlines() == ["640 0 /tmp/copied/file", "640 0 /dev/shm/file", "into", "into"]
    for state in ("running", "exited"):
        if state == "exited":
            engine.succeed("stop", "-t", "0", running)
            engine.succeed("cp", f"{tmp_path}/in/file", f"{running}:/out/while-stopped")
        assert engine.succeed("inspect", "-f", "{{.State.Status}}", running) == state
        engine.succeed("cp", f"{running}:/out", f"{tmp_path}/{state}")
        assert (tmp_path / state / "file").read_text() == "out of\n" and (tmp_path / state / "file").stat().st_mode & 0o777 == 0o600
        assert os.readlink(tmp_path / state / "link") == "file"
    engine.succeed("start", running)
    assert engine.succeed("exec", running, "cat", "/out/while-stopped", "/tmp/copied/file") == "into\ninto"
    missing = engine("cp", f"{running}:/no/such", f"{tmp_path}/x")
    assert missing.code == 125 and "/no/such" in missing.err, missing


def statistics(engine: Engine, id: str) -> dict[str, Any]:
    (found,) = json.loads(engine.succeed("stats", "--no-stream", "--format", "json", id))
    return dict(found)


def as_bytes(text: str) -> float:
    number = text.rstrip("kMGB")
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[text[len(number):]]


def test_statistics(engine: Engine, running: str) -> None:
    before = statistics(engine, running)
    assert before["pids"] == "1" and before["id"] == running[:12]
    used, limit = map(as_bytes, before["mem_usage"].split(" / "))
    assert limit == pytest.approx(64 << 20, rel=0.01) and used < 16e6
    # of a process: on v2 podman counts no files
    engine.succeed("exec", "-d", running, "sh", "-c", "dd if=/dev/zero bs=24M count=2 | sleep 1000")
    until(lambda: statistics(engine, running)["pids"] == "4", "the three further processes are counted")

    def held() -> float:
        return as_bytes(statistics(engine, running)["mem_usage"].split(" / ")[0]) - used

    assert 24e6 < until(lambda: more if (more := held()) > 24e6 else None, "dd has filled its buffer") < 40 << 20
    pid = engine.succeed("inspect", "-f", "{{.State.Pid}}", running)
    assert limits_of(pid, "memory") == {"memory": 64 << 20}


def health(engine: Engine, id: str) -> tuple[str, int]:
    status, failures = engine.succeed("inspect", "-f", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", id).split()
    return status, int(failures)


def test_health(engine: Engine) -> None:
    """It is an exec; podman has timers of systemd do it regularly, where that runs."""
    id = engine.succeed("run", "-d", *engine.run_options, "--health-cmd=test -e /healthy && echo good", "--health-retries=2",
                        "--health-interval=disable", "box", "sleep", "1000")
    assert health(engine, id) == ("starting", 0)
    failed = [(engine("healthcheck", "run", id).code, health(engine, id)) for _ in range(2)]
    assert failed == [(1, ("starting", 1)), (1, ("unhealthy", 2))]
    engine.succeed("exec", id, "touch", "/healthy")
    engine.succeed("healthcheck", "run", id)
    assert health(engine, id) == ("healthy", 0)
    log = json.loads(engine.succeed("inspect", "-f", "{{json .State.Health.Log}}", id))
    assert [entry["ExitCode"] for entry in log] == [1, 1, 0] and log[-1]["Output"].strip() == "good"
    assert engine.succeed("ps", "-q", "--no-trunc", "--filter", "health=healthy") == id
    remove(engine, id)
    if CGROUP_DRIVER == "systemd":
        # podman's units have nothing of its environment, but systemd's
        subprocess.run(["systemctl", "set-environment", *(f"{name}={value}" for name, value in engine.environment.items())], check=True)
        try:
            id = engine.succeed("run", "-d", *engine.run_options, "--health-cmd=true", "--health-interval=1s", "box", "sleep", "1000")
            until(lambda: health(engine, id) == ("healthy", 0), "the timer has the health looked at")
            remove(engine, id)
        finally:
            subprocess.run(["systemctl", "unset-environment", *engine.environment], check=True)


def test_init(engine: Engine) -> None:
    """Who nobody waits for is waited for; without it that would be a zombie, and a signal without a handler would do nothing."""
    require("catatonit")
    orphan = "sh -c 'sleep 0.1 & echo $! >/orphan'; cat /orphan"
    ended = {}
    for options in ((), ("--init",)):
        id = engine.succeed("run", "-d", *engine.run_options, *options, "box", "sleep", "1000")
        pid = engine.succeed("exec", id, "sh", "-c", orphan)
        state = f"cut -d' ' -f3 /proc/{pid}/stat 2>/dev/null || echo gone"
        until(lambda id=id, state=state: engine.succeed("exec", id, "sh", "-c", state) in ("Z", "gone"),  # type: ignore[misc]
              "the orphan has ended")
        name = engine.succeed("exec", id, "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline")
        until(lambda id=id, state=state, options=options: (engine.succeed("exec", id, "sh", "-c", state) == "gone") == bool(options),  # type: ignore[misc]
              "the orphan is reaped by an init alone")
        engine.succeed("stop", "-t", "20" if options else "1", id)
        ended[name.split()[0]] = engine.succeed("inspect", "-f", "{{.State.ExitCode}}", id)
        engine.succeed("rm", id)
    assert ended == {"sleep": "137", "/run/podman-init": "143"}


def test_a_directory_as_the_root(engine: Engine, tmp_path: Path) -> None:
    """And with an overlay on it, which keeps the directory as it is."""
    tmp_path.chmod(0o755)
    root = make_tree(tmp_path / "root")
    script = "cat /etc/passwd; echo written >/etc/new; echo $$"
    for suffix, is_kept in ((":O", True), ("", False)):
        ended = engine.run("--rm", "--rootfs", f"{root}{suffix}", "sh", "-c", script)
        assert (ended.code, ended.out.splitlines()) == (0, ["root:x:0:0:root:/:/bin/sh", "1"]), ended
        assert (root / "etc/new").exists() != is_kept
    shutil.rmtree(root)
