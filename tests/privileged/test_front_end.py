"""The front end of the command line on real containers: what it does without Python is what Python does, and what fails is Python's to tell."""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prctl
import pytest
from command_lab import COMMAND, TIMEOUT_S, Line
from lab import cgroup_file

HANDED_OVER = 99
PROBE = ["/bin/sh", "-c", "cat; echo wrong >&2; exit 3"]
Bare = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bare(line: Line) -> Bare:
    """The front end without Python: it ends with HANDED_OVER where that would have done the command."""
    directory = line.lab.directory / "bin"
    directory.mkdir()
    shutil.copy(COMMAND, directory)
    (directory / "pyruntime-python").write_text(f"#!/bin/sh\nexit {HANDED_OVER}\n")
    (directory / "pyruntime-python").chmod(0o755)

    def call(*arguments: str, output: object = subprocess.PIPE, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([directory / "pyruntime", "--root", str(line.lab.root), *arguments], stdout=output, stderr=output,  # type: ignore[call-overload,no-any-return]
                              input=input, text=True, check=False, timeout=TIMEOUT_S)
    return call


@pytest.fixture
def subreaper(service: Line) -> Iterator[None]:
    """What a command leaves is ours, but the container of `service`, which is there already."""
    prctl.set_child_subreaper(1)
    yield
    prctl.set_child_subreaper(0)


def process_file(line: Line, args: list[str]) -> str:
    path = line.lab.directory / "process.json"
    path.write_text(json.dumps({"args": args, "cwd": "/", "env": ["PATH=/bin"]}))
    return str(path)


def left_of(line: Line, id: str = "p1") -> list[str]:
    """Records of exec processes."""
    return [path.name for path in (line.lab.root / id).glob("process-*")]


@pytest.mark.parametrize("by_file", [True, False], ids=["--process", "arguments"])
def test_a_process_that_was_executed_before(by_file: bool, service: Line, bare: Bare) -> None:
    command = ("exec", "--process", process_file(service, PROBE), "p1") if by_file else ("exec", "--env", "A=B", "p1", *PROBE)
    assert bare(*command).returncode == HANDED_OVER
    first = service(*command, input="typed")
    assert (first.returncode, first.stdout, first.stderr) == (3, "typed", "wrong\n")
    again = bare(*command, input="typed")
    assert (again.returncode, again.stdout, again.stderr) == (3, "typed", "wrong\n")
    assert left_of(service) == []
    # another one, and the same of another container that has become this one
    assert bare(*(*command[:-1], "p2") if by_file else (*command, "x")).returncode == HANDED_OVER
    service.succeed("pause", "p1")
    assert bare(*command).returncode == HANDED_OVER
    service.succeed("resume", "p1")
    assert bare(*command).returncode == 3


def test_what_a_process_is_does_not_depend_on_who_made_it(service: Line, bare: Bare) -> None:
    script = ("grep -E '^(Cap|NoNew|Seccomp|Groups|Sig[PBIC])' /proc/self/status; cat /proc/self/cgroup /proc/self/oom_score_adj; umask; "
              "ls /proc/self/fd; ls -l /proc/self/ns | grep -o '[a-z_]*:.*'; ulimit -n; env")
    command = ("exec", "p1", "/bin/sh", "-c", script)
    first = service.succeed(*command)
    assert first == bare(*command).stdout and len(first.splitlines()) > 30


@pytest.mark.usefixtures("subreaper")
def test_a_detached_process(service: Line, bare: Bare) -> None:
    pid_file = service.lab.directory / "pid"
    command = ("exec", "--detach", "--pid-file", str(pid_file), "--process", process_file(service, ["/bin/sleep", "1000"]), "p1")
    service.detach(*command)
    first = int(pid_file.read_text())
    os.kill(first, signal.SIGKILL)
    pid_file.unlink()
    os.waitpid(first, 0)
    assert bare(*command, output=subprocess.DEVNULL).returncode == 0
    second = int(pid_file.read_text())
    assert second != first and os.readlink(f"/proc/{second}/exe").endswith("busybox")
    # that of the first one, which somebody has reaped, is forgotten
    (record,) = left_of(service)
    assert record.startswith(f"process-{second}.")
    assert second in json.loads(service.succeed("ps", "--format", "json", "p1"))
    os.kill(second, signal.SIGKILL)
    os.waitpid(second, 0)


def test_signals_go_on_to_the_process(service: Line, bare: Bare) -> None:
    command = ("exec", "p1", "/bin/sh", "-c", "trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    program = str(service.lab.directory / "bin" / "pyruntime")
    for path in (COMMAND, program):
        with subprocess.Popen([path, "--root", str(service.lab.root), *command], stdout=subprocess.PIPE, text=True) as made:
            assert made.stdout is not None and made.stdout.readline() == "ready\n", path
            made.send_signal(signal.SIGTERM)
            assert (made.stdout.read(), made.wait()) == ("term\n", 5)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("sleep 9 & kill -9 $!; wait $! 2>/dev/null", 137)])
def test_run_of_a_bundle_that_has_run_before(script: str, code: int, line: Line, bare: Bare) -> None:
    command = ("run", "--bundle", line.lab.bundle(f"cat; echo wrong >&2; {script}"))
    assert bare(*command, "p1").returncode == HANDED_OVER
    first = line(*command, "p1", input="typed")
    again = bare(*command, "p2", input="typed")
    assert (first.returncode, first.stdout, first.stderr) == (again.returncode, again.stdout, again.stderr) == (code, "typed", "wrong\n")
    assert [path.name for path in line.lab.root.iterdir()] == [".plans"]


def test_the_life_of_a_container_without_python(line: Line, bare: Bare) -> None:
    pid_file = line.lab.directory / "pid"
    command = ("create", "--bundle", line.lab.bundle("exec sleep 1000", annotations={"a": "b"}), "--pid-file", str(pid_file))
    line.detach(*command, "p1")
    assert bare(*command, "p2", output=subprocess.DEVNULL).returncode == 0
    pid = int(pid_file.read_text())
    states = [json.loads(line.succeed("state", id)) for id in ("p1", "p2")]
    assert [state.pop("id") for state in states] == ["p1", "p2"] and states[1].pop("pid") == pid != states[0].pop("pid")
    created = [state.pop("created") for state in states]
    assert states[0] == states[1] and states[0]["status"] == "created" and created[0] < created[1]
    # Python's record, and what Python prints of it
    records = [json.loads((line.lab.root / id / "state.json").read_text()) for id in ("p1", "p2")]
    for record in records:
        for name in ("id", "pid", "start_time", "created", "front", "cgroups"):
            del record[name]
    assert records[0] == records[1]
    assert os.readlink(line.lab.root / "p2" / "cgroup") == os.readlink(line.lab.root / "p1" / "cgroup").replace("p1", "p2")
    of_python = [f"{COMMAND}-python", "--root", str(line.lab.root), "state", "p2"]
    assert bare("state", "p2").stdout == subprocess.run(of_python, capture_output=True, text=True, check=True).stdout
    assert cgroup_file("pids", "tasks", "cgroup.procs", "p2").read_text().split() == [str(pid)]
    pidfd = os.pidfd_open(pid)
    assert bare("start", "p2").returncode == 0 and line.status("p2") == "running"
    assert bare("start", "p2").returncode == bare("delete", "p2").returncode == HANDED_OVER
    assert bare("kill", "p2", "KILL").returncode == 0
    assert select.select([pidfd], [], [], TIMEOUT_S)[0]
    os.close(pidfd)
    assert bare("kill", "p2").returncode == HANDED_OVER
    assert bare("delete", "p2").returncode == 0 and not (line.lab.root / "p2").exists()
    assert bare("delete", "--force", "p1").returncode == 0 and not (line.lab.root / "p1").exists()


def test_the_library_knows_what_it_has_made(line: Line, bare: Bare) -> None:
    command = ("create", "--bundle", line.lab.bundle("exit 4"))
    line.detach(*command, "p1")
    line.succeed("delete", "p1")
    prctl.set_child_subreaper(1)  # before Linux 6.15 only the parent has the exit code
    try:
        assert bare(*command, "p1", output=subprocess.DEVNULL).returncode == 0
    finally:
        prctl.set_child_subreaper(0)
    runtime = line.lab.runtime
    assert runtime.get_container_state("p1").status == "created"
    runtime.start_container("p1")
    assert runtime.wait_on_container("p1").exit_code == 4
    runtime.delete_container("p1")


def test_a_start_that_fails_is_told_and_leaves_nothing(line: Line) -> None:
    program = line.lab.rootfs / "bin" / "gone"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    line.detach("create", "--bundle", line.lab.bundle(["/bin/gone"]), "p1")
    program.unlink()
    assert line.fail("start", "p1").endswith("execute program '/bin/gone' ($.process.args): ENOENT: no such file or directory")
    assert "container 'p1' does not exist" in line.fail("state", "p1")


def test_a_run_that_fails_is_told_and_leaves_nothing(line: Line, bare: Bare) -> None:
    program = line.lab.rootfs / "bin" / "gone"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    command = ("run", "--bundle", line.lab.bundle(["/bin/gone"]), "p1")
    line.succeed(*command)
    assert bare(*command).returncode == 0
    program.unlink()
    assert bare(*command).returncode == HANDED_OVER
    assert [path.name for path in line.lab.root.iterdir()] == [".plans"]
    assert "ENOENT: no such file or directory" in line.fail(*command)


def test_a_pid_file_that_cannot_be_written(line: Line, bare: Bare) -> None:
    command = ("create", "--bundle", line.lab.bundle("true"))
    line.detach(*command, "p1")
    line.succeed("delete", "p1")
    (line.lab.directory / "pid").mkdir()
    for path in ("/no/such/directory/pid", str(line.lab.directory / "pid")):
        assert bare(*command, "--pid-file", path, "p1", output=subprocess.DEVNULL).returncode == HANDED_OVER
        assert line.fail(*command, "--pid-file", path, "p1").startswith("write pid file ")
    assert [path.name for path in line.lab.root.iterdir()] == [".plans"]


def test_what_is_not_plain_is_not_kept(line: Line, bare: Bare) -> None:
    hook = {"path": "/bin/true", "args": ["true"]}
    for changes in ({"hooks": {"poststop": [hook]}}, {"hooks": {"createRuntime": [hook]}}, {"hooks": {"startContainer": [hook]}}):
        command = ("run", "--bundle", line.lab.bundle(["/bin/true"], **changes), "p1")
        line(*command)
        assert bare(*command).returncode == HANDED_OVER
    assert not (line.lab.root / ".plans").exists()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_warned_of_is_so_each_time(log_format: str, line: Line, bare: Bare) -> None:
    bundle = line.lab.bundle(["/bin/true"], process={"capabilities": {"bounding": ["CAP_UNKNOWN"]}})
    told = []
    for log, call in (("first", line), ("second", bare)):
        path = line.lab.directory / log
        assert call("--log", str(path), "--log-format", log_format, "run", "--bundle", bundle, "p1").returncode == 0
        told.append(path.read_text())
        # without the time, which ends in Z
        told[-1] = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", told[-1])
    assert told[0] == told[1] and "CAP_UNKNOWN" in told[0] and "TIME" in told[0]
    shown = bare("run", "--bundle", bundle, "p1")
    assert "CAP_UNKNOWN" in shown.stderr and shown.stderr.startswith('time="') and shown.stderr.count("\n") == told[0].count("\n")


def test_no_plan_is_taken_from_where_others_can_write(line: Line, bare: Bare) -> None:
    command = ("run", "--bundle", line.lab.bundle(["/bin/true"]), "p1")
    line.succeed(*command)
    for path in (line.lab.root.parent, line.lab.root, line.lab.root / ".plans", next((line.lab.root / ".plans").iterdir())):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        assert bare(*command).returncode == HANDED_OVER
        path.chmod(mode)
        os.chown(path, 1000, 1000)
        assert bare(*command).returncode == HANDED_OVER
        os.chown(path, 0, 0)
    assert bare(*command).returncode == 0


def test_an_id_that_exists_is_refused(line: Line, bare: Bare) -> None:
    command = ("create", "--bundle", line.lab.bundle("true"), "p1")
    line.detach(*command)
    assert bare(*command).returncode == HANDED_OVER
    assert line.status("p1") == "created"
    line.succeed("delete", "p1")


def engine_bundle(line: Line, script: str, **changes: Any) -> tuple[str, str]:
    """An id and a bundle as podman makes it: what was generated stands all over it."""
    id, layer, network = secrets.token_hex(32), secrets.token_hex(32), uuid.uuid4()
    made = Path(line.lab.bundle(script, **{"annotations": {}, **changes}))
    bundle, root = made.parent / id / "userdata", made.parent / layer / "merged"
    bundle.mkdir(parents=True)
    root.parent.mkdir()
    root.symlink_to(line.lab.rootfs)
    (bundle / "hosts").write_text(f"127.0.0.1 {id[:12]}\n")
    config = json.loads((made / "config.json").read_text())
    config["root"]["path"] = str(root)
    config["hostname"] = id[:12]
    config["process"]["env"] = [*config["process"].get("env", ["PATH=/bin"]), f"HOSTNAME={id[:12]}", f"NETWORK=netns-{network}"]
    config["mounts"].append({"destination": "/tmp/hosts", "type": "bind", "source": f"{bundle}/hosts", "options": ["bind", "ro"]})
    config["linux"]["cgroupsPath"] = f"/pyruntime/libpod-{id}"
    config["annotations"] |= {"created": f"2026-11-26T18:14:41.{secrets.randbelow(9 * 10**8) + 10**8}Z",
                              "network": f"/run/netns/netns-{network}"}
    (bundle / "config.json").write_text(json.dumps(config))
    return id, str(bundle)


def test_a_bundle_that_differs_in_generated_names(line: Line, bare: Bare) -> None:
    """Each container has its own, in what it sees and in what is told of it."""
    script = "hostname; env; cat /tmp/hosts; read x"
    shown = []
    for call in (line, bare, bare):
        id, bundle = engine_bundle(line, script)
        pid_file = line.lab.directory / "pid"
        create = ("create", "--bundle", bundle, "--pid-file", str(pid_file), id)
        read_end, write_end = os.pipe()
        output, standard_output = os.pipe()
        if call is line:
            assert bare(*create, output=subprocess.DEVNULL).returncode == HANDED_OVER
        program = COMMAND if call is line else str(line.lab.directory / "bin" / "pyruntime")
        subprocess.run([program, "--root", str(line.lab.root), *create], stdin=read_end, stdout=standard_output, check=True, timeout=TIMEOUT_S)
        os.close(standard_output)
        os.close(read_end)
        state = json.loads(bare("state", id).stdout)
        config = json.loads(Path(bundle, "config.json").read_text())
        assert (state["bundle"], state["rootfs"], state["annotations"]) == (bundle, config["root"]["path"], config["annotations"])
        assert os.readlink(line.lab.root / id / "cgroup").endswith(config["linux"]["cgroupsPath"])
        assert f"/libpod-{id}\n" in Path(f"/proc/{pid_file.read_text()}/cgroup").read_text()
        assert bare("start", id).returncode == 0
        os.write(write_end, b"\n")
        os.close(write_end)
        with open(output) as stream:
            text = stream.read()
        assert text.splitlines()[0] == id[:12] and f"HOSTNAME={id[:12]}\n" in text and f"127.0.0.1 {id[:12]}\n" in text
        assert f"NETWORK={state['annotations']['network'].rpartition('/')[2]}\n" in text
        shown.append(text.replace(id, "ID").replace(id[:12], "SHORT").replace(state["annotations"]["network"][15:], "UUID"))
        line.succeed("delete", "--force", id)
    assert shown[0] == shown[1] == shown[2]
    assert len(list((line.lab.root / ".plans").iterdir())) == 1


def test_what_only_looks_like_a_name_is_told_as_it_is(line: Line, bare: Bare) -> None:
    """Digits of an escape, which with others would be another character."""
    for escape in ("\\u00e9abcdef012345", "\\u00eaabcdef012345"):
        id, bundle = engine_bundle(line, "exit 0", annotations={"a": "ESCAPE"})
        path = Path(bundle, "config.json")
        path.write_text(path.read_text().replace("ESCAPE", escape))
        assert bare("create", "--bundle", bundle, id).returncode == HANDED_OVER
        line.detach("create", "--bundle", bundle, id)
        assert json.loads(bare("state", id).stdout)["annotations"]["a"] == json.loads(f'"{escape}"')
        line.succeed("delete", "--force", id)
    assert not (line.lab.root / ".plans").exists()
