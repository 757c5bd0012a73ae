"""What a caller's state must not change, and what a second process with the same root can do."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import prctl
import pytest
from lab import Lab

from pyruntime import StdioOptions
from pyruntime.host import read_host

HEAD = ("import sys, signal, os\nfrom pyruntime import NativeRuntime, StdioOptions, errors\n"
        "rt = NativeRuntime(sys.argv[1])\n")


def other(lab: Lab, code: str, *args: str) -> str:
    """The output of a second Python process with a runtime `rt` on the same root."""
    done = subprocess.run([sys.executable, "-c", HEAD + code, str(lab.root), *args], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.conformance(62)
@pytest.mark.parametrize("how", ["init", "exec"])
def test_only_preserved_descriptors_get_in(lab: Lab, how: str) -> None:
    leaks = [os.open("/", os.O_RDONLY) for _ in range(50)]
    for leak in leaks:
        os.set_inheritable(leak, True)
    saved = os.dup(3) if os.path.exists("/proc/self/fd/3") else None
    try:
        for preserved in (0, 2):
            options = StdioOptions(create_out=True, preserve_fds=preserved)
            command = ["/bin/ls", "/proc/self/fd"]
            if how == "exec":
                lab.sleeper()
                out = lab.exec(command, stdio=options)
                lab.runtime.delete_container("p1", force=True)
            else:
                out = lab.run(command, stdio=options)
            assert sorted(map(int, out.split())) == list(range(3 + preserved + 1))
    finally:
        for leak in (*leaks, *([saved] if saved is not None else [])):
            os.close(leak)


@pytest.mark.conformance(62)
def test_preserved_descriptor_is_the_callers(lab: Lab) -> None:
    code = ("r, w = os.pipe(); r = os.dup2(r, 100); os.dup2(w, 3)\n"
            "rt.create_container('p1', sys.argv[2], StdioOptions(preserve_fds=1)); rt.start_container('p1')\n"
            "rt.wait_on_container('p1'); rt.delete_container('p1'); print(os.read(r, 10))")
    assert other(lab, code, lab.bundle("echo hello >&3")) == "b'hello\\n'\n"


@pytest.mark.parametrize("how", ["init", "exec"])
def test_signals_are_default_inside(lab: Lab, how: str) -> None:
    # SIGRTMIN is the first that the C library does not keep for itself
    ignored = (signal.SIGPIPE, signal.SIGUSR1, signal.SIGCHLD, signal.SIGXFSZ, signal.SIGTERM, signal.SIGRTMIN)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    # it goes on reading, and ends when SIGCHLD is not ignored any more: before Linux 6.15 its status would be lost
    command, options = ["/bin/grep", "-h", "Sig", "/proc/self/status", "-"], StdioOptions(create_in=True, create_out=True)
    try:
        if how == "exec":
            lab.sleeper()
            pid = lab.runtime.exec_process("p1", {"args": command, "cwd": "/"}, options)
        else:
            pid = lab.create(command, stdio=options)
            lab.runtime.start_container("p1")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    pipes = lab.runtime.get_stdio_pipes("p1", pid)
    assert pipes.in_ is not None
    pipes.in_.close()
    out = lab.read("p1", pid)
    assert lab.runtime.wait_on_process("p1", pid).exit_code == 0
    fields = dict(line.split()[:2] for line in out.splitlines())
    assert int(fields["SigBlk:"], 16) == int(fields["SigIgn:"], 16) == int(fields["SigCgt:"], 16) == 0


def test_second_process(lab: Lab) -> None:
    lab.create(["/bin/sleep", "1000"], stdio=StdioOptions())
    out = other(lab, """
assert [s.id for s in rt.list_container_states()] == ["p1"]
assert rt.get_container_state("p1").status == "created"
rt.start_container("p1")
pid = rt.exec_process("p1", {"args": ["/bin/sh", "-c", "exit 7"], "cwd": "/"}, StdioOptions())
print(rt.wait_on_process("p1", pid).exit_code)
rt.delete_process("p1", pid)
rt.pause_container("p1"); print(rt.get_container_state("p1").status)
rt.resume_container("p1"); print(rt.get_container_state("p1").status)
rt.kill_container("p1", 9); print(rt.wait_on_container("p1").exit_code)
rt.delete_container("p1"); print(rt.container_exists("p1"))
""")
    assert out.split() == ["7", "paused", "running", "137", "False"]


def test_second_process_reports_exec_failure(lab: Lab) -> None:
    lab.create(["/absent"], stdio=StdioOptions())
    assert other(lab, "try: rt.start_container('p1')\n"
                      "except errors.SetupError as e: print(e.step, e.path, e.errno_name, e.json_path, rt.container_exists('p1'))"
                 ) == "execute program /absent ENOENT $.process.args False\n"


def test_killed_callers_containers(lab: Lab) -> None:
    code = ("rt.create_container('p1', sys.argv[2], StdioOptions()); rt.start_container('p1')\n"
            "rt.create_container('p2', sys.argv[2], StdioOptions()); print('made', flush=True); signal.pause()")
    caller = subprocess.Popen([sys.executable, "-c", HEAD + code, str(lab.root), lab.bundle(["/bin/sleep", "1000"])],
                              stdout=subprocess.PIPE)
    assert caller.stdout is not None
    with caller.stdout:
        assert caller.stdout.readline() == b"made\n"
        caller.kill()
        caller.wait()
    assert [state.status for state in lab.runtime.list_container_states()] == ["running", "created"]
    for id in ("p1", "p2"):
        lab.runtime.delete_container(id, force=True)
    assert lab.runtime.list_container_states() == []


def _spoil(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


def test_damaged_state_spoils_itself_only(lab: Lab) -> None:
    lab.sleeper("p1")
    pid = lab.sleeper("p2")
    file = lab.root / "p1" / "state.json"
    saved = file.read_bytes()
    for damage in (b"", b"{", b"[]", b'{"id": 1}', b"\xff"):
        file.write_bytes(damage)
        assert [(state.id, state.pid) for state in lab.runtime.list_container_states()] == [("p2", pid)]
    file.write_bytes(saved)


def test_reused_pid(lab: Lab) -> None:
    pid = lab.sleeper()
    file = lab.root / "p1" / "state.json"
    saved = file.read_bytes()
    _spoil(file, lambda data: data.update(start_time=int(str(data["start_time"])) - 1))
    code = ("print(rt.get_container_state('p1').status)\n"
            "try: rt.kill_container('p1', 9)\nexcept errors.NotRunningError: print('refused')")
    assert other(lab, code).split() == ["stopped", "refused"]
    file.write_bytes(saved)
    assert os.path.exists(f"/proc/{pid}") and lab.runtime.get_container_state("p1").status == "running"


def test_state_is_private(lab: Lab) -> None:
    lab.sleeper()
    for path in (lab.root, lab.root / "p1"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


# What callers do about their children: nothing of it may take a status away, or be taken away.
CALLERS = {
    "ignores": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "has a handler": """
own = set()
def handle(number, frame):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        own.discard(pid)
signal.signal(signal.SIGCHLD, handle)
""",
    "waits in a thread": """
import threading, time
stop = False
def reap():
    while not stop:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0002)  # there is none: nothing to wait for
threading.Thread(target=reap, daemon=True).start()
""",
}
LOOP = """
import itertools, time
bundle, failing = sys.argv[2:4]
wrong = []
known = sys.argv[4] == "known"
def status(wait):
    try:
        return wait().exit_code
    except errors.ExitStatusUnknownError:
        return "unknown"
begun = time.monotonic()
for i in itertools.count():
    if i >= 20 and (i == 200 or time.monotonic() - begun > 20):
        break
    pid = rt.create_container("p1", bundle, StdioOptions(create_in=True))
    rt.start_container("p1")
    other = rt.exec_process("p1", {"args": ["/bin/sh", "-c", "exit 5"], "cwd": "/"}, StdioOptions())
    try:
        rt.exec_process("p1", {"args": ["/absent"], "cwd": "/"}, StdioOptions())
        wrong.append((i, "executed what is not there"))
    except errors.SetupError as error:
        if (error.step, error.errno_name) != ("execute program", "ENOENT"):
            wrong.append((i, str(error)))
    found = [status(lambda: rt.wait_on_process("p1", other))]
    rt.get_stdio_pipes("p1", pid).in_.close()
    found.append(status(lambda: rt.wait_on_container("p1")))
    if found != [5, 6] and (known or not set(found) <= {5, 6, "unknown"}):
        wrong.append((i, found))
    if rt.get_container_state("p1").status != "stopped":
        wrong.append((i, "not stopped"))
    rt.delete_container("p1")
    try:
        rt.create_container("p1", failing, StdioOptions())
        wrong.append((i, "created what cannot be"))
    except errors.SetupError as error:
        if (error.step, error.errno_name) != ("change directory", "ENOTDIR"):
            wrong.append((i, str(error)))
print(wrong[:5], rt.list_container_states(), os.listdir(sys.argv[1]))
"""


@pytest.mark.parametrize("caller", CALLERS)
def test_caller_with_an_eye_on_its_children(lab: Lab, caller: str) -> None:
    """Many times, so that a race shows: as often as there is time for where all is slow."""
    known = "known" if read_host().kernel >= (6, 15) else "unknown"  # before, the status goes with the zombie
    out = other(lab, CALLERS[caller] + LOOP, lab.bundle("read line; exit 6"),
                lab.bundle("true", process={"cwd": "/etc/passwd"}), known)
    assert out == "[] [] []\n"


def test_a_callers_own_child_is_left_to_it(lab: Lab) -> None:
    """The runtime waits for its own processes by their descriptors: what the caller forked stays for the caller."""
    children = [os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", f"exit {code}"]) for code in range(3)]
    for _ in range(20):
        assert lab.run_state("exit 8")[1].exit_code == 8
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 1, 2]


def test_asyncio_caller(lab: Lab) -> None:
    async def main() -> tuple[int, int]:
        child = await asyncio.create_subprocess_exec("/bin/true")
        code = (await asyncio.to_thread(lab.run_state, "exit 8"))[1].exit_code
        return code, await child.wait()
    asyncio.run(main()) # makes asyncio's own lasting objects
    assert asyncio.run(main()) == (8, 0)


def test_caller_with_thousands_of_descriptors(lab: Lab) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    many: list[int] = []
    try:
        many += [os.dup(0) for _ in range(5000)]
        assert lab.run("echo fine").strip() == "fine"
        lab.sleeper()
        assert lab.exec("echo fine").strip() == "fine"
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_killed_callers_processes_under_a_subreaper(lab: Lab) -> None:
    """What a killed caller made becomes our child, and would keep its pid namespace's init from ending until it is reaped."""
    code = ("rt.create_container('p1', sys.argv[2], StdioOptions()); rt.start_container('p1')\n"
            "rt.exec_process('p1', {'args': ['/bin/sleep', '1000'], 'cwd': '/'}, StdioOptions())\n"
            "print('made', flush=True); signal.pause()")
    prctl.set_child_subreaper(1)
    try:
        caller = subprocess.Popen([sys.executable, "-c", HEAD + code, str(lab.root), lab.bundle(["/bin/sleep", "1000"])],
                                  stdout=subprocess.PIPE)
        assert caller.stdout is not None
        with caller.stdout:
            assert caller.stdout.readline() == b"made\n"
            caller.kill()
            caller.wait()
        lab.runtime.delete_container("p1", force=True)
    finally:
        prctl.set_child_subreaper(0)


@pytest.mark.conformance(62)
def test_a_descriptor_that_the_caller_has_not_opened(lab: Lab) -> None:
    """What the runtime opens for itself gets the same number."""
    lab.sleeper("p1")
    code = ("""
options = StdioOptions(create_in=True, create_out=True, preserve_fds=1)
os.closerange(3, 100)
for make in (lambda: rt.exec_process("p1", {"args": ["/bin/true"], "cwd": "/"}, options),
             lambda: rt.create_container("p2", sys.argv[2], options)):
    try:
        print("made", make())
    except errors.SetupError as error:
        print(error.step, error.errno_name)
""")
    assert other(lab, code, lab.bundle("true")) == "pass descriptor 3 EBADF\n" * 2
    assert not lab.runtime.container_exists("p2")


def test_a_caller_that_closes_all_descriptors_goes_on(lab: Lab) -> None:
    """As a daemon does, also after the runtime has opened what it keeps: another file may have the number by then."""
    script = ("import os, sys; from pyruntime import NativeRuntime, StdioOptions\n"
              "rt = NativeRuntime(sys.argv[1])\n"
              "for id in ('p1', 'p2'):\n"
              "    pid = rt.create_container(id, sys.argv[2], StdioOptions(create_out=True))\n"
              "    rt.start_container(id)\n"
              "    print(rt.get_stdio_pipes(id, pid).out.read(), rt.wait_on_container(id).exit_code)\n"
              "    rt.delete_container(id)\n"
              "    os.closerange(3, 100)\n"
              "    files = [os.open(sys.argv[0], os.O_RDONLY) for _ in range(20)]\n")
    program = lab.directory / "daemon.py"
    program.write_text(script)
    done = subprocess.run([sys.executable, program, str(lab.root), lab.bundle("echo said; cat")], capture_output=True, text=True,
                          timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("b'said\\n' 0\n" * 2, "")
