"""containerd and its ctr, with this runtime and with runc."""

from __future__ import annotations

import concurrent.futures
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerd import BOX, Containerd, end, running
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, PYRUNTIME, Engine, remove_cgroups, until
from journey import SERVICE

from pyruntime.host import read_host

pytestmark = pytest.mark.privileged
# of containerd, and the parent of its containers' cgroups
NAMESPACE = "ctr-tests"
CHECKPOINT = "localhost/checkpoint:1"
# ctr passes the terminal's size on once the process runs
AWAIT_SIZE = "until stty size | grep '20 50'; do sleep 0.05; done"
# what ctr has not begun to read when the process has ended it never prints, with every runtime
LINGER = "sleep 0.2"
GREEDY = ["dd", "if=/dev/zero", "of=/dev/null", "count=1"]


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    with running(disabled=("io.containerd.grpc.v1.cri",)) as containerd:
        containerd.import_images(NAMESPACE)
        yield containerd
    remove_cgroups(NAMESPACE)


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, containerd: Containerd) -> Iterator[Engine]:
    """Of a test's containers nothing is left."""
    root = containerd.directory / request.param
    engine = containerd.client(NAMESPACE, ["--runc-binary", PYRUNTIME if request.param == "pyruntime" else "runc", "--runc-root", str(root)])
    yield engine
    assert engine.succeed("containers", "ls", "-q") == ""
    assert engine.succeed("snapshots", "ls").count("Active") == 0
    assert list(root.glob("*/[!.]*")) == []
    assert cgroups() == []
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while containerd.shims():  # they end on their own once they have no container
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert f" {containerd.directory}/state/io.containerd.runtime" not in Path("/proc/self/mountinfo").read_text()


def cgroups() -> list[Path]:
    return [path for pattern in (f"{NAMESPACE}/*/", f"*/{NAMESPACE}/*/") for path in Path("/sys/fs/cgroup").glob(pattern)]


def status(engine: Engine, id: str) -> str:
    """RUNNING, PAUSED, STOPPED; of a task, which is what containerd calls what runs."""
    lines = [line.split() for line in engine.succeed("tasks", "ls").splitlines()[1:]]
    return next((words[2] for words in lines if words[0] == id), "none")


def await_text(file: Path, text: str) -> None:
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while text not in (found := file.read_text()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def until_stopped(engine: Engine, id: str) -> None:
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while status(engine, id) != "STOPPED":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def remove(engine: Engine, id: str) -> None:
    """Whatever it does."""
    engine("tasks", "kill", "--signal", "SIGKILL", id)
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while engine("tasks", "delete", id).code != 0 and status(engine, id) != "none":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.succeed("containers", "delete", id)


@pytest.mark.parametrize(("command", "code"), [
    (["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "sleep 60 & kill -9 $!; wait $!"], 137)])
def test_exit_code(engine: Engine, command: list[str], code: int) -> None:
    ended = engine.run("--rm", BOX, "c1", *command)
    assert ended.code == code, ended


@pytest.mark.parametrize("command", ["no-such-program", "/no/such/program", "/etc/not-executable"])
def test_what_cannot_be_executed(engine: Engine, command: str) -> None:
    """The runtime's own words reach the user."""
    ended = engine.run("--rm", BOX, "c1", command)
    assert ended.code == 1 and "OCI runtime create failed" in ended.err and command in ended.err, ended


def test_streams(engine: Engine) -> None:
    """ctr may close its end before the shim has opened the other one, so that what reads to the end waits, with every runtime."""
    ended = engine.run("--rm", BOX, "c1", "sh", "-c", f"head -n 1; echo wrong >&2; {LINGER}", stdin="typed\n")
    assert (ended.code, ended.out, ended.err) == (0, "typed", "wrong")


def test_terminal(engine: Engine) -> None:
    script = f"tty; {AWAIT_SIZE}; test -t 0 -a -t 1 -a -t 2 && exit 5"
    ended = engine.in_terminal("run", *engine.run_options, "--rm", "-t", BOX, "c1", "sh", "-c", script)
    assert ended.code == 5, ended
    assert "/dev/pts/0" in ended.out, ended


def test_options(engine: Engine, volume: str) -> None:
    script = f"cat /volume/file; echo $NAME; pwd; grep -E 'CapEff|Seccomp:' /proc/self/status; touch /new || touch /volume/new || {LINGER}"
    ended = engine.run("--rm", "--read-only", "--mount", f"type=bind,src={volume},dst=/volume,options=rbind:ro", "--env", "NAME=value",
                       "--cwd", "/tmp", "--cap-drop", "CAP_CHOWN", "--cap-drop", "CAP_MKNOD", "--seccomp", BOX, "c1", "sh", "-c", script)
    assert ended.code == 0, ended
    assert [line.split()[-1] for line in ended.out.splitlines()] == ["text", "value", "/tmp", "00000000a00425fa", "2"]
    assert ended.err.count("Read-only file system") == 2, ended


def test_namespaces(engine: Engine) -> None:
    """The host's network, and a namespace that is joined."""
    ended = engine.run("--rm", "--net-host", BOX, "c1", "sh", "-c", f"readlink /proc/self/ns/net; {LINGER}")
    assert ended.out == os.readlink("/proc/self/ns/net"), ended
    ended = engine.run("--rm", "--with-ns", f"ipc:/proc/{os.getpid()}/ns/ipc", BOX, "c1", "sh", "-c", f"readlink /proc/self/ns/ipc; {LINGER}")
    assert ended.out == os.readlink("/proc/self/ns/ipc"), ended


def test_privileged(engine: Engine) -> None:
    script = f"test -c /dev/kmsg && mount -t tmpfs none /tmp && echo mounted; {LINGER}"
    ended = engine.run("--rm", "--privileged", BOX, "c1", "sh", "-c", script)
    assert (ended.code, ended.out) == (0, "mounted"), ended


def test_limits_bind(engine: Engine) -> None:
    limits = ["--memory-limit", str(32 << 20), "--cpus", "0.5"]
    ended = engine.run("--rm", *limits, BOX, "c1", *GREEDY, "bs=100M")
    assert ended.code == 137, ended
    ended = engine.run("--rm", *limits, BOX, "c1", *GREEDY, "bs=1M")
    assert ended.code == 0, ended


def test_driver_and_metrics(engine: Engine) -> None:
    """By the driver that the host has; systemd then knows the limits."""
    driver = ["--cgroup", "/ctr-tests/c1"]
    if CGROUP_DRIVER == "systemd":
        driver = ["--runc-systemd-cgroup", "--cgroup", "ctr.slice:ctr:c1"]
    assert engine.run("-d", "--null-io", "--memory-limit", str(64 << 20), *driver, BOX, "c1", "sleep", "1000").code == 0
    try:
        pid = pid_of(engine, "c1")
        cgroup = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].partition("::")[2]
        if CGROUP_DRIVER == "systemd":
            assert cgroup == "/ctr.slice/ctr-c1.scope"
            shown = subprocess.run(["systemctl", "show", "-pMemoryMax", "-pActiveState", "ctr-c1.scope"], check=True, capture_output=True,
                                   text=True).stdout
            assert set(shown.split()) == {"MemoryMax=67108864", "ActiveState=active"}
        else:
            assert ":memory:/ctr-tests/c1" in Path(f"/proc/{pid}/cgroup").read_text() or cgroup == "/ctr-tests/c1"
        metrics = json.loads(engine.succeed("tasks", "metrics", "--format", "json", "c1"))
        memory = metrics["memory"]
        assert (memory["usage_limit"] if read_host().is_unified else memory["usage"]["limit"]) == 64 << 20
        assert metrics["pids"]["current"] == 1
    finally:
        remove(engine, "c1")


def pid_of(engine: Engine, id: str) -> str:
    return next(line.split()[1] for line in engine.succeed("tasks", "ls").splitlines() if line.split()[0] == id)


def test_service(engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    assert engine.run("-d", "--log-uri", f"file://{log}", "--pid-file", f"{tmp_path}/pid", BOX, "c1", "sh", "-c", SERVICE).code == 0
    try:
        await_text(log, "started")
        assert status(engine, "c1") == "RUNNING"
        assert (tmp_path / "pid").read_text() == pid_of(engine, "c1")
        execute(engine)
        shown = engine.succeed("tasks", "ps", "c1").splitlines()
        assert shown[1].split()[0] == pid_of(engine, "c1"), shown
        engine.succeed("tasks", "pause", "c1")
        assert status(engine, "c1") == "PAUSED"
        refused = engine("tasks", "exec", "--exec-id", "e1", "c1", "true")
        assert refused.code == 1 and "paused" in refused.err, refused
        engine.succeed("tasks", "resume", "c1")
        assert status(engine, "c1") == "RUNNING"
        engine.succeed("tasks", "kill", "--signal", "SIGTERM", "c1")
        await_text(log, "told to stop")
        until_stopped(engine, "c1")
        again = engine("tasks", "kill", "--signal", "SIGTERM", "c1")
        assert again.code == 1 and "process already finished: not found" in again.err, again
        assert "non-zero exit code 9" in engine("tasks", "delete", "c1").err
        assert engine("tasks", "start", "-d", "--null-io", "c1").code == 0  # a container is started anew, as another task
        assert status(engine, "c1") == "RUNNING"
    finally:
        remove(engine, "c1")


def execute(engine: Engine) -> None:
    """In the running container."""
    def run(id: str, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        ended = engine("tasks", "exec", "--exec-id", id, *arguments, stdin=stdin)
        return ended.code, ended.out

    assert run("e1", "c1", "sh", "-c", f"cat /etc/passwd; {LINGER}") == (0, "root:x:0:0:root:/:/bin/sh")
    assert run("e2", "c1", "sh", "-c", "exit 6") == (6, "")
    script = f"id -u; id -g; pwd; head -n 1; {LINGER}"
    assert run("e3", "--user", "5:6", "--cwd", "/tmp", "c1", "sh", "-c", script, stdin="in\n") == (0, "5\n6\n/tmp\nin")
    missing = engine("tasks", "exec", "--exec-id", "e4", "c1", "no-such-program")
    assert missing.code == 1 and "OCI runtime exec failed" in missing.err and "no-such-program" in missing.err, missing
    typed = engine.in_terminal("tasks", "exec", "--exec-id", "e5", "-t", "c1", "sh", "-c", f"tty; {AWAIT_SIZE}; exit 7")
    assert (typed.code, "/dev/pts/" in typed.out) == (7, True), typed


def test_one_process_of_many_is_killed(engine: Engine) -> None:
    """And then all of them at once."""
    assert engine.run("-d", "--null-io", BOX, "c1", "sleep", "1000").code == 0
    try:
        assert engine("tasks", "exec", "-d", "--exec-id", "e1", "c1", "sleep", "2000").code == 0
        assert len(engine.succeed("tasks", "ps", "c1").splitlines()) == 3
        engine.succeed("tasks", "kill", "--exec-id", "e1", "--signal", "SIGKILL", "c1")
        assert status(engine, "c1") == "RUNNING"
        engine.succeed("tasks", "kill", "--all", "--signal", "SIGKILL", "c1")
    finally:
        remove(engine, "c1")


def test_several_at_once(engine: Engine) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda number: engine.run("--rm", BOX, f"c{number}", "sh", "-c", f"exit {number}"), range(4)))
    assert [end.code for end in ended] == [0, 1, 2, 3], ended


def test_a_container_without_containerd(containerd: Containerd, engine: Engine, tmp_path: Path) -> None:
    """Its shim has it go on, and tells the next containerd of its end."""
    log = tmp_path / "log"
    log.touch()
    assert engine.run("-d", "--log-uri", f"file://{log}", BOX, "c1", "sh", "-c", SERVICE).code == 0
    try:
        await_text(log, "started")
        pid = pid_of(engine, "c1")
        containerd.kill()
        containerd.start()
        assert (status(engine, "c1"), pid_of(engine, "c1")) == ("RUNNING", pid)
        assert engine("tasks", "exec", "--exec-id", "e1", "c1", "sh", "-c", "exit 6").code == 6
        engine.succeed("tasks", "kill", "--signal", "SIGTERM", "c1")
        await_text(log, "told to stop")
        until_stopped(engine, "c1")
        assert "non-zero exit code 9" in engine("tasks", "delete", "c1").err
    finally:
        remove(engine, "c1")


@pytest.mark.parametrize("is_told", [True, False], ids=["beside_containerd", "with_containerd"])
def test_a_shim_that_is_killed(containerd: Containerd, engine: Engine, is_told: bool) -> None:
    """containerd then has the container deleted, at once or when it comes back; the runtime's command alone knows of it meanwhile."""
    assert engine.run("-d", "--null-io", BOX, "c1", "sleep", "1000").code == 0
    try:
        pid = int(pid_of(engine, "c1"))
        descriptor = os.pidfd_open(pid)
        (shim,) = containerd.shims()
        if not is_told:
            containerd.kill()
        end(shim)
        if not is_told:
            program, root = engine.run_options[1], engine.run_options[3]
            state = [program, "--root", f"{root}/{NAMESPACE}", "state", "c1"]
            shown = json.loads(subprocess.run(state, capture_output=True, check=True).stdout)
            assert (shown["status"], shown["pid"]) == ("running", pid)
            containerd.start()
        assert select.select([descriptor], [], [], COMMAND_TIMEOUT_S)[0]
        os.close(descriptor)
    finally:
        remove(engine, "c1")
    # what the shim was to remove, containerd has removed in its own time
    records = Path(engine.run_options[3])
    until(lambda: not cgroups() and not list(records.glob("*/[!.]*")), f"{cgroups()} and {list(records.glob('*/*'))} are gone")


def test_checkpoint(engine: Engine, tmp_path: Path) -> None:
    """Into files, and into an image that another container goes on from. Where criu cannot, that is said, and the container runs on."""
    works = subprocess.run(["criu", "check"], capture_output=True, check=False).returncode == 0
    script = "echo begun >>/begun; i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done"
    assert engine.run("-d", "--null-io", BOX, "c1", "sh", "-c", script).code == 0
    try:
        reached = count(engine, "c1", 2)
        ended = engine("tasks", "checkpoint", "--image-path", str(tmp_path / "image"), "--work-path", str(tmp_path / "work"), "c1")
        assert (ended.code == 0) == works, ended
        if works:
            assert (tmp_path / "image/inventory.img").exists()
            engine.succeed("containers", "checkpoint", "--task", "--rw", "--image", "c1", CHECKPOINT)
        else:
            assert ended.code == 1 and "criu" in ended.err.lower(), ended
        reached = count(engine, "c1", reached + 2)
    finally:
        remove(engine, "c1")
    if works:
        go_on(engine, reached)


def go_on(engine: Engine, reached: int) -> None:
    """From the image, in a container c2: its cgroup is c1's, whose end it has to await."""
    try:
        engine.succeed("containers", "restore", "--live", "--rw", "c2", CHECKPOINT)
        count(engine, "c2", reached + 2)
        assert engine.succeed("tasks", "exec", "--exec-id", "begun", "c2", "cat", "/begun") == "begun"
    finally:
        remove(engine, "c2")
        engine.succeed("images", "rm", CHECKPOINT)


def count(engine: Engine, id: str, least: int) -> int:
    """What a container has counted to, once it is so much."""
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while True:
        shown = engine("tasks", "exec", "--exec-id", f"at{time.monotonic_ns()}", id, "cat", "/count").out
        if shown and int(shown) >= least:
            return int(shown)
        assert time.monotonic() < deadline, shown
