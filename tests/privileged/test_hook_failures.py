"""Hooks that fail: the error says which one and how, and what is left is nothing (runtime.md, "Lifecycle")."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hook_lab import KINDS, OUTSIDE, Diary, shell
from lab import Lab

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import DamagedStateError, HookFailedError, InvalidBundleError, SetupError
from pyruntime.runtimes.identity import read_command, read_stat
from pyruntime.testing.bundles import without_pid_namespace
from pyruntime.testing.case import within_time
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged

FAILING = KINDS[:-1]
# what a hook is, and what the error says: path, errno, JSON path behind the hook's, detail, exit code, signal
CASES: dict[str, tuple[dict[str, Any], int, str, str, int | None, int | None]] = {
    "exit code": (shell("echo first; echo why >&2; exit 3"), 0, "", "exited with 3: first why", 3, None),
    "signal": (shell("kill -KILL $$"), 0, "", "was killed by signal 9 (SIGKILL: killed)", None, 9),
    "missing": ({"path": "/no/such/hook"}, errno.ENOENT, ".path", "", None, None),
    "not executable": ({"path": "/etc/passwd"}, errno.EACCES, ".path", "", None, None),
    "directory": ({"path": "/bin"}, errno.EACCES, ".path", "", None, None),
    "time": (shell("echo begun; exec sleep 1000", timeout=1), 0, ".timeout", "did not end within 1 s and was killed: begun", None, None),
}


@pytest.fixture
def diary(lab: Lab) -> Diary:
    return Diary(lab.directory / "diary")


def run_until(lab: Lab, kind: str, hooks: dict[str, Any], **changes: Any) -> HookFailedError:
    """Create and start; the error, after which nothing is left."""
    (lab.rootfs / "etc" / "passwd").touch()
    before = HostSnapshot.take(lab.root)
    with pytest.raises(HookFailedError) as raised:
        lab.create(["/bin/sleep", "1000"], hooks=hooks, stdio=StdioOptions(), **changes)
        assert kind in ("startContainer", "poststart")
        lab.runtime.start_container("p1")
    assert not lab.runtime.container_exists("p1") and lab.runtime.list_container_states() == []
    assert [line for line in HostSnapshot.take(lab.root).differences(before) if "/p1" in line] == []
    return raised.value


@pytest.mark.conformance(61)
@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("kind", FAILING)
def test_error(lab: Lab, diary: Diary, kind: str, what: str) -> None:
    hook, number, below, detail, exit_code, ended_by = CASES[what]
    after = {later: [diary.note(later)] for later in KINDS[KINDS.index(kind) + 1:] if later in OUTSIDE}
    error = run_until(lab, kind, {**after, kind: [shell("exit 0"), hook, diary.note("never")]})
    assert (error.step, error.path, error.errno, error.json_path, error.detail, error.exit_code, error.signal) == (
        "run hook", hook["path"], number, f"$.hooks.{kind}[1]{below}", detail, exit_code, ended_by)
    # step 12 and 13: the container is destroyed, and the hooks for its end run
    assert diary.lines == ["poststop"]


@pytest.mark.parametrize("kind", FAILING)
def test_the_end_of_a_long_output_is_told(lab: Lab, kind: str) -> None:
    flood = shell("i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; echo the end; exit 1")
    error = run_until(lab, kind, {kind: [flood]})
    assert error.exit_code == 1 and error.detail.endswith("0123456789 the end") and len(error.detail) < 4200


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_reads_nothing_and_one_that_leaves_a_daemon(lab: Lab, diary: Diary, kind: str) -> None:
    """Whoever holds its output when it has ended is not waited for."""
    fifo = lab.directory / "fifo"
    os.mkfifo(fifo)
    # opened before, since what is opened or executed after the change of root is the container's
    daemon = shell("sleep 1000 & exit 0", env=["PATH=/bin"]) if kind == "startContainer" else shell(
        f"exec 8<>{fifo}; (read line <&8) & echo $! > {diary.path}; exit 0")
    pid = lab.create(["/bin/sleep", "1000"], hooks={kind: [{"path": "/bin/true"}, daemon]}, annotations={"long": "x" * 1_000_000})
    lab.runtime.start_container("p1")
    inside = [process for process in lab.runtime.get_all_container_processes("p1") if process.pid != pid]
    assert len(inside) == (kind in ("createContainer", "startContainer"))
    within_time(lambda: lab.runtime.delete_container("p1", force=True))
    if not inside:  # one of the host's is not the container's, and runs on
        assert (read_command(int(diary.lines[0])) or [""])[0] == "sh"
        os.kill(int(diary.lines[0]), signal.SIGKILL)


@pytest.mark.parametrize("kind", [kind for kind in FAILING if kind in OUTSIDE])
@pytest.mark.parametrize("shares", [False, True], ids=["own pid namespace", "the host's pid namespace"])
def test_the_children_of_a_late_hook_end_with_it(lab: Lab, diary: Diary, kind: str, shares: bool) -> None:
    # by the host's procfs it knows its pid as the host does
    script = f"(read pid rest < /proc/self/stat; echo $pid >> {diary.path}; exec sleep 987) & wait"
    run_until(lab, kind, {kind: [shell(script, timeout=1, env=["PATH=/bin:/usr/bin"])]},
              **({"linux": without_pid_namespace()} if shares else {}))
    (pid,) = map(int, diary.lines)
    assert read_stat(pid) is None or read_command(pid) != ["sleep", "987"]


@pytest.mark.conformance(61)
def test_poststop_hooks_that_fail_are_warned_of(lab: Lab, diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    lab.create(["/bin/true"], hooks={"poststop": [shell("echo no; exit 4"), {"path": "/no/such/hook"}, diary.note("last")]})
    with caplog.at_level(logging.WARNING, "pyruntime"):
        lab.runtime.delete_container("p1", force=True)
    assert [record.getMessage() for record in caplog.records] == [
        "container p1: run hook '/bin/sh' ($.hooks.poststop[0]): exited with 4: no",
        "container p1: run hook '/no/such/hook' ($.hooks.poststop[1].path): ENOENT: No such file or directory"]
    assert diary.lines == ["last"]


def test_poststop_hooks_without_the_bundle(lab: Lab, diary: Diary) -> None:
    lab.create(["/bin/true"], hooks={"poststop": [shell(f"pwd >> {diary.path}")]})
    bundle = lab.directory / "bundle2"
    bundle.rename(lab.directory / "elsewhere")
    lab.runtime.delete_container("p1", force=True)
    assert diary.lines == ["/"]


@pytest.mark.conformance(61)
@pytest.mark.parametrize(("changes", "expected"), [
    ({"process": {"args": ["/no/such/program"]}}, ["prestart", "poststop"]),
    ({"process": {"cwd": "/etc/passwd"}}, ["prestart", "poststop"]),
    ({"linux": {"readonlyPaths": ["/" + "y" * 300]}}, ["prestart", "poststop"]),
    ({"mounts": [{"destination": "/x", "type": "no-such-type"}]}, []),
], ids=["program", "directory", "after the hooks", "before the hooks"])
def test_poststop_hooks_of_a_container_that_another_thing_fails(lab: Lab, diary: Diary, changes: dict[str, Any],
                                                                expected: list[str]) -> None:
    """They follow once hooks have begun to run."""
    (lab.rootfs / "etc" / "passwd").touch()
    hooks = {kind: [diary.note(kind)] for kind in ("prestart", "poststop")}
    with pytest.raises(SetupError):
        lab.create(["/bin/true"], hooks=hooks, **changes)
        lab.runtime.start_container("p1")
    assert diary.lines == expected and not lab.runtime.container_exists("p1")


@pytest.mark.parametrize("kind", ["prestart", "createContainer"])
def test_an_init_that_is_killed_while_hooks_run(lab: Lab, diary: Diary, kind: str) -> None:
    hook = shell(f"echo begun >> {diary.path}; exec sleep 1000")
    with pytest.raises(SetupError) as raised:
        thread = threading.Thread(target=_kill_init, args=(lab, diary))
        thread.start()
        lab.create(["/bin/true"], hooks={kind: [{**hook, "timeout": 3}], "poststop": [diary.note("poststop")]})
    thread.join()
    assert isinstance(raised.value, HookFailedError) == (kind == "prestart"), raised.value
    assert diary.lines == ["begun", "poststop"]


def _kill_init(lab: Lab, diary: Diary) -> None:
    while not diary.lines:
        time.sleep(0.01)
    record = lab.root / "p1" / "state.json.new"
    os.kill(int(record.read_text().split('"pid":')[1].split(",")[0]), signal.SIGKILL)


@pytest.mark.conformance(24)
@pytest.mark.parametrize(("member", "value"), [("path", "bin/true"), ("timeout", 0), ("timeout", -1), ("args", ["\0"]), ("env", ["A=\0"])])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_cannot_be(lab: Lab, kind: str, member: str, value: object) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create(["/bin/true"], hooks={kind: [{"path": "/bin/true"}, {"path": "/bin/true", member: value}]})
    assert str(raised.value.json_path).startswith(f"$.hooks.{kind}[1].{member}")


def test_an_endless_timeout(lab: Lab, diary: Diary) -> None:
    lab.create(["/bin/true"], hooks={kind: [{**diary.note(kind), "timeout": 2**63 - 1}] for kind in ("prestart", "createContainer")})
    assert diary.lines == ["prestart", "createContainer"]


@pytest.mark.conformance(24)
@pytest.mark.parametrize("kind", ["prestart", "createContainer", "startContainer", "poststart"])
@pytest.mark.parametrize("timeout", [None, 60], ids=["no timeout", "timeout"])
def test_a_hook_may_take_longer_than_setting_up(lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str, timeout: int | None) -> None:
    monkeypatch.setattr("pyruntime.native.process.SETUP_TIMEOUT_S", 0.3)
    hook = shell("sleep 1", env=["PATH=/bin:/usr/bin"])
    if timeout is not None:
        hook["timeout"] = timeout
    assert lab.run("echo ran", hooks={kind: [hook]}) == "ran\n"


def test_a_caller_that_is_interrupted_while_a_hook_runs(lab: Lab, diary: Diary) -> None:
    """What is raised meanwhile ends the hook and takes the container back."""
    def interrupt(*_: object) -> None:
        raise InterruptedError("by the test")

    handler = signal.signal(signal.SIGUSR1, interrupt)
    hook = shell(f"(read pid rest < /proc/self/stat; echo $pid > {diary.path}); kill -USR1 {os.getpid()}; exec sleep 986")
    try:
        with pytest.raises(InterruptedError):
            lab.create(["/bin/true"], hooks={"prestart": [hook], "poststop": [diary.note("poststop")]})
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert diary.lines[1:] == ["poststop"] and not lab.runtime.container_exists("p1")
    with pytest.raises(ProcessLookupError):
        os.killpg(int(diary.lines[0]), 0)


def test_a_creation_that_is_killed_while_hooks_run(lab: Lab, diary: Diary) -> None:
    """Its poststop hooks run when it is removed by force."""
    bundle = lab.bundle(["/bin/true"], hooks={"prestart": [shell("kill -KILL $PPID")], "poststop": [diary.state()]})
    script = ("import sys; from pyruntime import NativeRuntime, StdioOptions\n"
              "NativeRuntime(sys.argv[1]).create_container('p1', sys.argv[2], StdioOptions())")
    creator = subprocess.run([sys.executable, "-c", script, str(lab.root), bundle], check=False)
    assert creator.returncode == -signal.SIGKILL
    with pytest.raises(DamagedStateError):
        lab.runtime.delete_container("p1")
    assert diary.lines == []
    lab.runtime.delete_container("p1", force=True)
    assert [(state["id"], state["status"]) for state in diary.states] == [("p1", "stopped")]


@pytest.mark.conformance(61)
def test_start_by_another_one_than_the_creator(lab: Lab) -> None:
    """The index of the hook comes from the init, and the rest from the record."""
    lab.create(["/bin/true"], hooks={"startContainer": [shell("exit 0"), shell("sleep 1000", timeout=1, env=["PATH=/bin"])]})
    with pytest.raises(HookFailedError) as raised:
        NativeRuntime(str(lab.root)).start_container("p1")
    assert (raised.value.path, raised.value.json_path, raised.value.detail) == (
        "/bin/sh", "$.hooks.startContainer[1].timeout", "did not end within 1 s and was killed")


def test_a_caller_that_ignores_its_children(lab: Lab) -> None:
    """Then the kernel reaps them, and their status comes from it (Linux 6.15) or is not known."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(HookFailedError) as raised:
            lab.create(["/bin/true"], hooks={"prestart": [shell("exit 3")]})
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert raised.value.exit_code in (3, None)
