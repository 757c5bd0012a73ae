"""How containers end under podman, and what it does then: signals, want of memory, restarts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from engine import Engine, until
from journey import limits_of
from podman import RUNTIMES, with_runtime

from pyruntime.host import read_host

pytestmark = pytest.mark.privileged
DEAF = "trap 'echo deaf' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


def inspect(engine: Engine, id: str, *fields: str) -> list[str]:
    return engine.succeed("inspect", "-f", " ".join(f"{{{{{field}}}}}" for field in fields), id).split()


def test_who_does_not_listen_is_killed_when_the_time_is_over(engine: Engine) -> None:
    id = engine.succeed("run", "-d", *engine.run_options, "box", "sh", "-c", DEAF)
    engine.await_output(id, "ready")
    begun = time.monotonic()
    engine.succeed("stop", "-t", "2", id)
    assert time.monotonic() - begun >= 2
    assert inspect(engine, id, ".State.Status", ".State.ExitCode", ".State.OOMKilled") == ["exited", "137", "false"]
    assert engine.succeed("logs", id).splitlines() == ["ready", "deaf"]
    engine.succeed("rm", id)


def test_signals(engine: Engine) -> None:
    """By name and number; to one that has no handler, in the container's first process, nothing happens."""
    script = "for s in USR1 HUP WINCH; do trap \"echo $s\" $s; done; trap 'exit 5' QUIT; echo ready; while :; do sleep 0.1; done"
    id = engine.succeed("run", "-d", *engine.run_options, "--stop-signal=QUIT", "box", "sh", "-c", script)
    engine.await_output(id, "ready")
    for name, text in (("USR1", "USR1"), ("SIGHUP", "HUP"), ("28", "WINCH")):
        engine.succeed("kill", "-s", name, id)
        engine.await_output(id, text)
    engine.succeed("kill", "-s", "TERM", id)
    assert inspect(engine, id, ".State.Status") == ["running"]
    unknown = engine("kill", "-s", "NOSUCH", id)
    assert unknown.code == 125 and "NOSUCH" in unknown.err, unknown
    engine.succeed("stop", "-t", "60", id)
    assert inspect(engine, id, ".State.ExitCode") == ["5"]
    late = engine("kill", id)
    assert late.code == 125 and "can only kill running containers" in late.err, late
    engine.succeed("rm", id)


def test_want_of_memory(engine: Engine, tmp_path: Path) -> None:
    """A process of the container holds more than it may; another one within the limit goes on. conmon hears of it and writes that to a file
    in its working directory, where podman finds it from 5.0 on; before, `.State.OOMKilled` stays false
    (https://github.com/containers/conmon/issues/504, https://github.com/podman-container-tools/podman/pull/21523). On v2 conmon looks no
    more once a limit was reached and nothing killed yet (mended in its 2.2.0, https://github.com/containers/conmon/issues/426): the file
    that it would read is asked."""
    # conmon may see the end before the want, so the container waits; and it may not have looked yet at the first
    script = "until cat /go 2>/dev/null; do dd if=/dev/zero of=/dev/null bs=200M count=1; code=$?; sleep 0.1; done; exit $code"
    limits = ("--memory=24m", "--memory-swap=24m", "box")
    engine = Engine(["env", f"--chdir={tmp_path}", *engine.command], engine.environment, engine.run_options)
    assert engine.run("--rm", *limits, "dd", "if=/dev/zero", "of=/dev/null", "bs=8M", "count=1").code == 0
    assert not (tmp_path / "oom").exists()
    id = engine.succeed("run", "-d", *engine.run_options, *limits, "sh", "-c", script)
    if read_host().is_unified:
        until(lambda: kills_for_want(engine, id) > 0, "a process was killed")
    else:
        until((tmp_path / "oom").exists, "conmon has heard of it")
    engine.succeed("exec", id, "touch", "/go")
    assert engine.succeed("wait", id) == "137"
    assert inspect(engine, id, ".State.Status", ".State.ExitCode") == ["exited", "137"]
    engine.succeed("rm", id)
    assert engine.run("--rm", *limits, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1").code == 137


def kills_for_want(engine: Engine, id: str) -> int:
    """As v2 counts them in the running container's cgroup."""
    cgroup = Path("/proc", *inspect(engine, id, ".State.Pid"), "cgroup").read_text().strip().partition("::/")[2]
    events = Path("/sys/fs/cgroup", cgroup, "memory.events").read_text().split()
    return int(events[events.index("oom_kill") + 1])


def test_restarts_on_failure(engine: Engine) -> None:
    """As often as it is said, and not after success."""
    run = ("run", "-d", *engine.run_options, "--restart=on-failure:2")
    id = engine.succeed(*run, "box", "sh", "-c", "echo ran; exit 3")
    until(lambda: inspect(engine, id, ".State.Status", ".RestartCount") == ["exited", "2"], "it was restarted twice")
    assert inspect(engine, id, ".State.ExitCode") == ["3"]
    assert engine.succeed("logs", id).splitlines() == ["ran"] * 3
    well = engine.succeed(*run, "box", "sh", "-c", "echo ran")
    assert engine.succeed("wait", well) == "0"
    until(lambda: inspect(engine, well, ".State.Status") == ["exited"], "it has ended")
    assert engine.succeed("logs", well) == "ran" and inspect(engine, well, ".RestartCount") == ["0"]
    engine.succeed("rm", id, well)


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_restarts_always(engine: Engine, policy: str) -> None:
    """However it ends, with the same files and limits; but not if the user stops it."""
    id = engine.succeed("run", "-d", *engine.run_options, f"--restart={policy}", "--memory=48m", "box",
                        "sh", "-c", "echo ran >>/ran; exec sleep 1000")
    pids = []
    for count in range(3):
        until(lambda count=count: inspect(engine, id, ".State.Status", ".RestartCount") == ["running", str(count)],  # type: ignore[misc]
              "it runs again")
        pids.append(inspect(engine, id, ".State.Pid")[0])
        assert engine.succeed("exec", id, "cat", "/ran").splitlines() == ["ran"] * (count + 1)
        assert limits_of(pids[-1], "memory") == {"memory": 48 << 20}
        if count < 2:
            os.kill(int(pids[-1]), signal.SIGKILL)
    assert len(set(pids)) == 3
    engine.succeed("stop", "-t", "0", id)
    assert inspect(engine, id, ".State.Status", ".RestartCount") == ["exited", "2"]
    engine.succeed("rm", id)
