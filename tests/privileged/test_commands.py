"""The real command on real containers: streams, terminals, files for the caller, and what bad input says and leaves."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from command_lab import TIMEOUT_S, Line, receive
from lab import cgroup_file

from pyruntime.testing.case import read_line


def line_from(terminal: int) -> bytes:
    """A terminal may give a line and its end one after the other."""
    with os.fdopen(os.dup(terminal), "rb", 0) as file:
        return read_line(file)


@pytest.mark.conformance(56, 57, 58, 59, 60)
def test_life_of_a_container(line: Line) -> None:
    pid_file, output = line.lab.directory / "pid", line.lab.directory / "output"
    bundle = line.lab.bundle("echo $0 started; exec sleep 1000", annotations={"a": "b"})
    with output.open("w") as out:
        ended = subprocess.run(line.arguments("create", "--bundle", bundle, "--pid-file", str(pid_file), "p1"), stdout=out, check=True)
    assert ended.returncode == 0 and output.read_text() == ""
    state = json.loads(line.succeed("state", "p1"))
    assert (state["status"], state["pid"], state["bundle"], state["annotations"]) == ("created", int(pid_file.read_text()), bundle, {"a": "b"})
    assert pid_file.read_text().isdigit() and sorted(path.name for path in line.lab.directory.glob("pid*")) == ["pid"]
    pidfd = os.pidfd_open(state["pid"])
    line.succeed("start", "p1")
    assert "it is running, not created" in line.fail("start", "p1")
    assert "it is running, not stopped" in line.fail("delete", "p1")
    line.succeed("pause", "p1")
    assert line.status() == "paused"
    line.succeed("resume", "p1")
    assert line.status() == "running"
    line.succeed("kill", "p1", "KILL")
    assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    os.close(pidfd)
    assert line.status() == "stopped" and output.read_text() == "/bin/sh started\n"
    line.succeed("delete", "p1")
    assert "container 'p1' does not exist" in line.fail("state", "p1")


def test_deleting_what_was_never_started(line: Line) -> None:
    """As runc and crun do, on which engines rely when something of theirs fails after the creation."""
    line.detach("create", "--bundle", line.lab.bundle(["/bin/true"]), "p1")
    assert line.status() == "created"
    line.succeed("delete", "p1")
    assert "container 'p1' does not exist" in line.fail("state", "p1")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("sleep 9 & kill -9 $!; wait $! 2>/dev/null", 137)])
def test_run_has_the_programs_exit_code_and_streams(line: Line, script: str, code: int) -> None:
    ended = line("run", "--bundle", line.lab.bundle(f"cat; echo wrong >&2; {script}"), "p1", input="typed")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "typed", "wrong\n")
    assert line.succeed("list", "-q") == ""


def test_run_keeps_the_container_if_asked_to(line: Line) -> None:
    line.succeed("run", "--keep", "--bundle", line.lab.bundle("true"), "p1")
    assert line.status() == "stopped"
    line.succeed("delete", "p1")


def test_run_passes_signals_on(line: Line) -> None:
    bundle = line.lab.bundle("trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    process = subprocess.Popen(line.arguments("run", "--bundle", bundle, "p1"), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (out, process.returncode) == ("got it\n", 4)


@pytest.mark.conformance(11)
def test_run_in_a_terminal(line: Line) -> None:
    bundle = line.lab.bundle("stty size; tty; read typed; echo it is $typed; exit 5", process={"terminal": True})
    master, slave = os.openpty()
    subprocess.run(["stty", "rows", "33", "cols", "44"], stdin=slave, check=True)
    process = subprocess.Popen(line.arguments("run", "--bundle", bundle, "p1"), stdin=slave, stdout=slave, stderr=slave)
    os.write(master, b"word\n")
    assert process.wait(TIMEOUT_S) == 5
    shown = os.read(master, 4096).decode()
    os.close(master)
    os.close(slave)
    assert "33 44" in shown and "/dev/pts/0" in shown and "it is word" in shown, shown


def test_exec(service: Line) -> None:
    assert service.succeed("exec", "p1", "echo", "-n", "here") == "here"
    ended = service("exec", "p1", "sh", "-c", "cat; exit 6", input="in")
    assert (ended.returncode, ended.stdout) == (6, "in")
    changed = service.succeed("exec", "-e", "A=b", "-e", "PATH=/bin:/x", "-u", "5:6", "-g", "7", "--cwd", "/tmp", "--no-new-privs", "-c",
                              "CAP_CHOWN", "p1", "sh", "-c", "echo $A $PATH; id; pwd; grep -E 'CapBnd|NoNewPrivs' /proc/self/status")
    assert changed.splitlines()[:3] == ["b /bin:/x", "uid=5 gid=6 groups=7", "/tmp"]
    bounding = f"{1 << 29 | 1 << 10 | 1 << 5 | 1:016x}"  # audit_write, net_bind_service, kill, chown
    assert dict(line.split(":\t") for line in changed.splitlines()[3:]) == {"CapBnd": bounding, "NoNewPrivs": "1"}


@pytest.mark.parametrize(("program", "said"), [
    ("no-such-program", "execute program 'no-such-program' ($.args): ENOENT: no such file or directory"),
    ("/etc/not-executable", "execute program '/etc/not-executable' ($.args): EACCES: permission denied")])
def test_exec_of_what_cannot_be_executed(service: Line, program: str, said: str) -> None:
    assert service.fail("exec", "p1", program, code=255) == said


def test_a_program_whose_interpreter_is_missing(service: Line) -> None:
    """Who sees the file would not know what does not exist."""
    script = service.lab.rootfs / "bin" / "script"
    script.write_text("#!/absent foo\n")
    script.chmod(0o755)
    said = "exec {}: no such file or directory, though it is there: the interpreter that its first line names, or its loader, is not: ENOENT"
    for name in ("script", "/bin/script"):
        assert said.format(name) in service.fail("exec", "p1", name, code=255)
        assert said.format(name) in service.fail("run", "--bundle", service.lab.bundle([name]), "p2")


@pytest.mark.parametrize("new_privileges", [True, False])
def test_exec_in_a_container_that_waits_for_its_start(line: Line, new_privileges: bool) -> None:
    """Where the init has a filter to install yet, for which it may hold CAP_SYS_ADMIN, too."""
    bundle = line.lab.bundle(["/bin/sleep", "1000"], process={"noNewPrivileges": not new_privileges},
                             linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}})
    line.detach("create", "--bundle", bundle, "p1")
    for _ in range(2):  # as once with a plan that is kept
        assert line.succeed("exec", "p1", "sh", "-c", "grep -h Seccomp: /proc/self/status; readlink /proc/1/exe || echo untraceable") == (
            "Seccomp:\t2\nuntraceable\n")
    traces = ["exec", "--cap", "CAP_SYS_PTRACE", "p1", "readlink", "/proc/1/exe"]
    assert line.fail(*traces, code=255) == "cannot exec what could have CAP_SYS_PTRACE in container 'p1': it is created, not running"
    assert line.status() == "created" and len(json.loads(line.succeed("ps", "--format", "json", "p1"))) == 1
    line.succeed("start", "p1")
    assert line.status() == "running" and line.succeed(*traces) == "/bin/busybox\n"
    line.succeed("delete", "--force", "p1")


def test_exec_of_a_file(service: Line) -> None:
    file, pid_file = service.lab.directory / "process.json", service.lab.directory / "pid"
    process = {"args": ["/bin/sleep", "1000"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    file.write_text(json.dumps(process))
    service.detach("exec", "--process", str(file), "--detach", "--pid-file", str(pid_file), "p1")
    assert int(pid_file.read_text()) in json.loads(service.succeed("ps", "--format", "json", "p1"))
    head, *rows = service.succeed("ps", "p1", "-e", "-o", "pid,args").splitlines()
    assert head.split() == ["PID", "COMMAND"] and rows[-1].split(maxsplit=1) == [pid_file.read_text(), "/bin/sleep 1000"] and len(rows) == 2
    file.write_text(json.dumps({**process, "cwd": "relative"}))
    assert service.fail("exec", "--process", str(file), "p1", code=255).startswith(f"{file}: $.cwd: ")
    file.write_text("{")
    assert service.fail("exec", "--process", str(file), "p1", code=255).startswith(f"{file}: ")


def test_records_of_detached_processes_do_not_pile_up(service: Line) -> None:
    for _ in range(4):
        service.succeed("exec", "p1", "true")
    file = service.lab.directory / "process.json"
    file.write_text(json.dumps({"args": ["/bin/true"], "cwd": "/"}))
    service.detach("exec", "--process", str(file), "--detach", "p1")
    assert len(list(Path(service.lab.root, "p1").glob("process-*"))) <= 1


def test_update(service: Line) -> None:
    service.succeed("update", "--resources", "-", "p1", input='{"pids": {"limit": 77}}')
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == "77\n"
    file = service.lab.directory / "resources.json"
    file.write_text('{"pids": {"limit": "many"}}')
    assert service.fail("update", "--resources", str(file), "p1").startswith(f"{file}: $.pids.limit: ")


def test_kill_all(service: Line) -> None:
    service.detach("exec", "--detach", "p1", "sleep", "1000")
    pidfds = [os.pidfd_open(pid) for pid in json.loads(service.succeed("ps", "--format", "json", "p1"))]
    assert len(pidfds) == 2
    service.succeed("kill", "--all", "p1", "9")
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], TIMEOUT_S)[0]
        os.close(pidfd)
    service.succeed("kill", "--all", "p1", "9")
    assert service.fail("kill", "p1", "9").endswith("ESRCH: no such process")


@pytest.mark.conformance(11)
@pytest.mark.parametrize("length", [10, 120])
def test_console_socket(line: Line, length: int) -> None:
    """Also of a path that no socket's address can hold."""
    directory = line.lab.directory / ("d" * length)
    directory.mkdir()
    here = os.open(directory, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/console")
        listener.listen()
        bundle = line.lab.bundle("tty; exec sleep 1000", process={"terminal": True})
        line.succeed("create", "--bundle", bundle, "--console-socket", f"{directory}/console", "p1")
        name, master = receive(listener)
        assert name == b"/dev/pts/0"
        line.succeed("start", "p1")
        assert line_from(master) == b"/dev/pts/0\r\n"
        line.succeed("exec", "--tty", "--detach", "--console-socket", f"{directory}/console", "p1", "tty")
        name, second = receive(listener)
        assert name == b"/dev/pts/1" and line_from(second) == b"/dev/pts/1\r\n"
    line.succeed("delete", "--force", "p1")
    for descriptor in (here, master, second):
        os.close(descriptor)


@pytest.mark.conformance(62)
def test_preserved_descriptors(line: Line) -> None:
    read, write = os.pipe()
    script = f"exec 3>&{write} {write}>&-; exec " + " ".join(line.arguments(
        "run", "--preserve-fds", "1", "--bundle", line.lab.bundle("echo through >&3; ls /proc/self/fd"), "p1"))
    ended = subprocess.run(["bash", "-c", script], pass_fds=[write], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    os.close(write)
    assert os.read(read, 100) == b"through\n"
    os.close(read)
    assert ended.stdout.split() == ["0", "1", "2", "3", "4"]  # the last one is of ls
    assert "3 is not open" in line.fail("run", "--preserve-fds", "1", "--bundle", line.lab.bundle("true"), "p1")


@pytest.mark.conformance(62)
@pytest.mark.parametrize("is_for_the_command", [True, False])
def test_sockets_to_listen_on(line: Line, is_for_the_command: bool) -> None:
    """As systemd and conmon pass them: before what else is preserved. Those that were for another process are not passed on."""
    pid = "$$" if is_for_the_command else "$PPID"
    command = " ".join(line.arguments("run", "--preserve-fds", "1", "--bundle", line.lab.bundle(
        "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; for fd in 3 4 5 6; do readlink /proc/self/fd/$fd || echo none; done"), "p1"))
    for name in "345":
        (line.lab.directory / name).touch()
    redirections = " ".join(f"{name}<{line.lab.directory}/{name}" for name in "345")
    script = f"exec {redirections}; export LISTEN_PID={pid} LISTEN_FDS=2 LISTEN_FDNAMES=a:b; exec {command}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    names = [Path(shown).name for shown in ended.stdout.splitlines()[1:]]
    if is_for_the_command:
        assert (ended.stdout.splitlines()[0], names) == ("2 1 a:b", ["3", "4", "5", "none"])
    else:
        assert (ended.stdout.splitlines()[0], names[1:]) == ("", ["none"] * 3)
        assert names[0] != "none"  # what --preserve-fds asks for


@pytest.mark.conformance(62)
def test_streams_that_the_caller_has_closed_are_the_null_device(line: Line) -> None:
    report = line.lab.directory / "report"
    report.mkdir()
    bundle = line.lab.bundle("for i in 0 1 2; do readlink /proc/self/fd/$i >/report/$i; done",
                             mounts=[*json.loads(Path(line.lab.bundle("true"), "config.json").read_text())["mounts"],
                                     {"destination": "/report", "type": "bind", "source": str(report), "options": ["bind"]}])
    arguments = " ".join(line.arguments("run", "--bundle", bundle, "p1"))
    assert subprocess.run(["sh", "-c", f"exec {arguments} <&- >&- 2>&-"], check=False, timeout=TIMEOUT_S).returncode == 0
    assert (report / "0").read_text() == "/dev/null\n" and (report / "2").read_text() == "/dev/null\n"


def test_bad_bundle(line: Line, tmp_path: Path) -> None:
    assert line.fail("create", "--bundle", str(tmp_path / "none"), "p1")== f"{tmp_path}/none: the bundle directory does not exist"
    bundle = line.lab.bundle("true", hostname=5)
    assert line.fail("create", "--bundle", bundle, "p1").startswith(f"{bundle}/config.json: $.hostname: ")
    assert line.fail("create", "--bundle", line.lab.bundle("true"), "../p1").startswith("invalid container id '../p1'")


def test_id_in_use(service: Line) -> None:
    assert service.fail("create", "--bundle", service.lab.bundle("true"), "p1") == "container 'p1' already exists"
    assert service.fail("run", "--bundle", service.lab.bundle("true"), "p1") == "container 'p1' already exists"
    assert service.status() == "running"


@pytest.mark.parametrize(("args", "said"), [
    (["no-such-program"], "execute program 'no-such-program' ($.process.args): ENOENT: no such file or directory"),
    (["/bin"], "execute program '/bin' ($.process.args): EACCES: permission denied"),
    (["/etc/not-executable"], "execute program '/etc/not-executable' ($.process.args): EACCES: permission denied"),
    (["/etc/passwd/x"], "execute program '/etc/passwd/x' ($.process.args): ENOTDIR: not a directory")])
def test_program_that_cannot_be_executed_fails_create(line: Line, args: list[str], said: str) -> None:
    assert line.fail("create", "--bundle", line.lab.bundle(args), "p1") == said
    assert line.succeed("list", "-q") == ""


def test_program_that_only_root_may_execute(line: Line) -> None:
    """It is looked for with the rights that it will have."""
    program = line.lab.rootfs / "bin" / "private"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    bundle = line.lab.bundle(["private"], process={"user": {"uid": 5, "gid": 5}})
    assert line.fail("create", "--bundle", bundle, "p1") == "execute program 'private' ($.process.args): EACCES: permission denied"
    line.succeed("run", "--bundle", line.lab.bundle(["private"]), "p1")


@pytest.mark.parametrize(("options", "terminal", "said"), [
    (["--pid-file", "/no/directory/pid"], False, "write pid file '/no/directory/pid': ENOENT: no such file or directory"),
    (["--console-socket", "/no/socket"], True, "connect to console socket '/no/socket': ENOENT: no such file or directory"),
    ([], True, "the process is to have a terminal, but there is no --console-socket to send it to")])
def test_what_cannot_be_handed_to_the_caller(line: Line, options: list[str], terminal: bool, said: str) -> None:
    bundle = line.lab.bundle("true", process={"terminal": terminal})
    assert line.fail("create", "--bundle", bundle, *options, "p1") == said
    assert line.succeed("list", "-q") == ""


def test_keyring(line: Line) -> None:
    """The container's own, or the caller's."""
    def keyring(id: str) -> str:
        return line.succeed("exec", id, "sh", "-c", f"grep -q _ses.{id} /proc/keys && echo own || echo callers").strip()

    for options, expected in (([], "own"), (["--no-new-keyring"], "callers")):
        id = f"p{len(options)}-keyring"  # others may have one for p1
        line.detach("run", *options, "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"], linux={"maskedPaths": []}), id)
        assert keyring(id) == expected
        line.succeed("delete", "--force", id)


def test_debugging_tells_where_an_error_comes_from(line: Line) -> None:
    line("--debug", "state", "p1")
    levels = [json.loads(record)["level"] for record in line.log.read_text().splitlines()]
    assert levels == ["debug", "error"] and "Traceback" in line.log.read_text()


def test_debugging_tells_what_was_reached(line: Line) -> None:
    """In the order in which it was, and in words that logs of runc are searched for."""
    def told() -> list[str]:
        records = [json.loads(record) for record in line.log.read_text().splitlines()]
        line.log.unlink()
        return [record["msg"] for record in records if record["level"] == "debug"]

    last = max(os.sched_getaffinity(0))
    line.detach("--debug", "run", "--detach", "--bundle", line.lab.bundle(["/bin/sleep", "1000"]), "p1")
    pid = json.loads(line.succeed("state", "p1"))["pid"]
    assert told() == [f"nsexec container setup: init of container p1 was cloned into its namespaces: pid {pid}",
                      "child process in init(): it has applied what the configuration says",
                      "init: closing the pipe to signal completion: it waits for its start", f"created container p1: pid {pid}"]
    process = line.lab.directory / "process.json"
    process.write_text(json.dumps({"args": ["/bin/true"], "cwd": "/", "execCPUAffinity": {"initial": str(last), "final": f"0-{last}"}}))
    pid_file = line.lab.directory / "pid"
    line.succeed("--debug", "exec", "--process", process, "--pid-file", pid_file, "p1")
    pid = pid_file.read_text()
    assert told() == [f"nsexec container setup: a process has joined the namespaces of container p1: pid {pid}",
                      f"nsexec container setup: affinity: {1 << last:#x}",
                      f"nsexec container setup: final affinity: {(2 << last) - 1:#x}",
                      "child process in init(): it has applied what config.json and the process say",
                      "setns_init: about to exec: done", f"executed in container p1: pid {pid}"]
    line.succeed("exec", "p1", "true")
    assert told() == []


@pytest.mark.parametrize(("flags", "told"), [({}, 4), ({"flags": []}, 0), ({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}, 2)])
def test_debugging_tells_the_flags_of_a_filter(line: Line, flags: dict[str, list[str]], told: int) -> None:
    """As numbers of seccomp(2), which nothing of the container shows."""
    bundle = line.lab.bundle("true", linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", **flags}})
    line("--debug", "run", "--bundle", bundle, "p1")
    assert f"seccomp filter flags: {told}" in [json.loads(record)["msg"] for record in line.log.read_text().splitlines()]


def test_warnings_go_to_the_log(line: Line) -> None:
    bundle = line.lab.bundle("true", process={"capabilities": {"bounding": ["CAP_MADE_UP"]}})
    assert line.succeed("run", "--bundle", bundle, "p1") == ""
    (record,) = [json.loads(record) for record in line.log.read_text().splitlines()]
    assert record["level"] == "warning" and "CAP_MADE_UP" in record["msg"]
