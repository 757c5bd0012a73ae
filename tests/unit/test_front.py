"""The front end of the command line: what it does by itself is what Python does, byte for byte, and all else is Python's."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyruntime.cgroups import Cgroup
from pyruntime.cli.main import main
from pyruntime.native.process import start_time
from pyruntime.state import ContainerRecord, Store
from pyruntime.state.front import front_of, state_document

PROGRAM = Path(sysconfig.get_path("scripts"), "pyruntime")
HANDED_OVER = "handed over:"
CREATED = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="without privileges the root directory is another one, and all is Python's")

Front = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """The front end beside a program that only says what was handed over to it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    shutil.copy(PROGRAM, directory)
    python = directory / "pyruntime-python"
    python.write_text(f'#!/bin/sh\necho "{HANDED_OVER} $*"\n')
    python.chmod(0o755)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([directory / "pyruntime", *arguments], capture_output=True, text=True, errors="surrogateescape", check=False)
    return call


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as made:
        yield made
        made.kill()


def put(store: Store, pid: int, *, id: str = "c1", annotations: dict[str, str] | None = None, cgroups: tuple[Cgroup, ...] = (),
        bundle: str = "/b", started: int | None = None, shares_pid_namespace: bool = False, deletes: bool = True) -> Path:
    """A container on record; its file."""
    begun = start_time(pid) if started is None else started
    document = state_document("1.2.0", id, 0, "", bundle, f"{bundle}/rootfs", CREATED, annotations or {})
    front = front_of(document, pid, begun, cgroups, starts=True, deletes=deletes, executes=True, shares_pid_namespace=shares_pid_namespace)
    store.add(id)
    store.prepare(ContainerRecord(id, "1.2.0", bundle, f"{bundle}/rootfs", pid, begun, CREATED, 0, shares_pid_namespace, cgroups,
                                  annotations or {}, front=front))
    store.commit(id)
    return Path(store.directory(id), "state.json")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


def printed_by_python(root: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert main(["--root", root, "state", "c1"]) == 0
    return capfd.readouterr().out


HOSTILE = {"\"quoted\"": "back\\slash\ttab", "ü": "\U0001f600", "front": '","front":"', "\n  \"pid\"": "0,"}


@pytest.mark.parametrize("annotations", [{}, {"a": "1"}, HOSTILE], ids=["none", "one", "hostile"])
@pytest.mark.parametrize("bundle", ["/b", '/with "quotes" and ,"front":"', "/ünï"])
def test_a_state_is_that_of_python(annotations: dict[str, str], bundle: str, front: Front, store: Store, process: subprocess.Popen[bytes],
                                   capfd: pytest.CaptureFixture[str]) -> None:
    put(store, process.pid, annotations=annotations, bundle=bundle)
    shown = front("--root", store.root, "state", "c1")
    assert (shown.returncode, shown.stderr, shown.stdout) == (0, "", printed_by_python(store.root, capfd))
    told = msgspec.json.decode(shown.stdout)
    assert (told["status"], told["pid"], told["annotations"], told["bundle"]) == ("running", process.pid, annotations, bundle)


@pytest.mark.parametrize(("file", "content", "status"), [
    ("freezer.state", "FROZEN\n", "paused"), ("freezer.state", "FREEZING\n", "paused"), ("freezer.state", "THAWED\n", "running"),
    ("cgroup.freeze", "1\n", "paused"), ("cgroup.freeze", "0\n", "running"), ("none", "", "running")])
def test_a_paused_one(file: str, content: str, status: str, front: Front, store: Store, process: subprocess.Popen[bytes], tmp_path: Path,
                      capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / file).write_text(content)
    is_v2 = file == "cgroup.freeze"
    put(store, process.pid, cgroups=(Cgroup(str(tmp_path), 4, () if is_v2 else ("freezer",), is_v2),))
    shown = front("--root", store.root, "state", "c1").stdout
    assert msgspec.json.decode(shown)["status"] == status
    assert shown == printed_by_python(store.root, capfd)


@pytest.mark.parametrize("how", ["zombie", "gone", "other"])
def test_a_stopped_one(how: str, front: Front, store: Store, process: subprocess.Popen[bytes], capfd: pytest.CaptureFixture[str]) -> None:
    put(store, process.pid, started=start_time(process.pid) - (how == "other"))
    if how != "other":
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | (os.WNOWAIT if how == "zombie" else 0))
    shown = front("--root", store.root, "state", "c1").stdout
    assert (msgspec.json.decode(shown)["status"], msgspec.json.decode(shown)["pid"]) == ("stopped", 0)
    assert shown == printed_by_python(store.root, capfd)


def damage(data: bytes, how: str) -> bytes:
    return {"empty": b"", "cut": data[:-9], "no end": data[:-1], "more": data + b"\n", "other id": data.replace(b"c1", b"c2"),
            "no front": data[:data.rindex(b',"front"')] + b"}", "not json": b"{", "other version": data.replace(b'"front":"1 ', b'"front":"2 '),
            "few lines": data[:data.index(b'"front"') + 30] + b'"}',
            "odd escape": data.replace(b'"front":"', b'"front":"\\u0031')}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "no end", "more", "other id", "no front", "not json", "other version", "few lines",
                                 "odd escape"])
@pytest.mark.parametrize("command", [("state", "c1"), ("kill", "c1", "9"), ("start", "c1"), ("delete", "c1"), ("delete", "-f", "c1")],
                         ids=" ".join)
def test_a_damaged_record_is_pythons(command: tuple[str, ...], how: str, front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    file = put(store, process.pid)
    file.write_bytes(damage(file.read_bytes(), how))
    assert front("--root", store.root, *command).stdout == f"{HANDED_OVER} --root {store.root} {' '.join(command)}\n"
    assert process.poll() is None and file.exists()


def test_a_record_of_any_bytes_is_taken_apart_or_handed_over(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    file = put(store, process.pid, annotations=HOSTILE, cgroups=(Cgroup("/sys/fs/cgroup/x", 14, ("freezer",), False),))
    whole, chance = file.read_bytes(), random.Random(1)
    begin = whole.rindex(b'"front":"')
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(begin, len(data))
            data[at:at + chance.randint(0, 3)] = chance.choice((b"", b"\\", b'"', b"\\n", b"\n", b"-", b"99999999999999999999", b"\0", b"}"))
        file.write_bytes(data)
        shown = front("--root", store.root, "state", "c1")
        assert (shown.returncode, shown.stderr) == (0, "") and (shown.stdout.startswith(HANDED_OVER) or '\n  "status": "' in shown.stdout), data


@pytest.mark.parametrize("arguments", [
    (), ("--version",), ("list",), ("--debug", "state", "c1"), ("--rootless", "true", "state", "c1"), ("state",), ("state", "c1", "c2"),
    ("state", "--help"), ("state", "c1", "-h"), ("state", "--", "c1"), ("kill", "--all", "c1"), ("kill", "c1", "NO"), ("kill", "c1", "65"),
    ("kill", "c1", "9", "9"), ("kill", "c1", "-9"), ("delete", "c1", "-f"), ("delete", "-ff", "c1"), ("state", "../c1"), ("state", ""),
    ("state", "c2"),
    ("--log-format", "yaml", "state", "c1"), ("--log-format=json",), ("--log", "/no/such/directory/log", "state", "c1"), ("--log",)],
    ids=" ".join)
def test_other_command_lines_are_pythons(arguments: tuple[str, ...], front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid)
    told = front("--root", store.root, *arguments).stdout
    assert told == f"{HANDED_OVER} {' '.join(('--root', store.root, *arguments))}\n"
    assert process.poll() is None


@pytest.mark.parametrize("root", ["relative", "/tmp/../tmp", "/tmp/", "//tmp", "/tmp/.", ""])
def test_a_root_that_python_would_write_otherwise_is_pythons(root: str, front: Front) -> None:
    assert front("--root", root, "state", "c1").stdout.startswith(HANDED_OVER)


def test_what_an_engine_passes(front: Front, store: Store, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    put(store, process.pid)
    log = tmp_path / "log"
    shown = front("--systemd-cgroup", "--root", store.root, "--log", str(log), "--log-format=json", "state", "c1")
    assert shown.stdout.startswith("{") and log.read_bytes() == b""


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "sigterm", "15", None])
def test_kill(name: str | None, front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid)
    done = front("--root", store.root, "kill", "c1", *([name] if name else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert process.wait() == -signal.SIGTERM


def test_a_process_that_has_only_the_pid_is_not_killed(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid, started=1)
    assert front("--root", store.root, "kill", "c1", "9").stdout.startswith(HANDED_OVER)
    assert process.poll() is None


def test_sigkill_in_a_shared_pid_namespace_is_pythons(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid, shares_pid_namespace=True)
    assert front("--root", store.root, "kill", "c1", "KILL").stdout.startswith(HANDED_OVER)
    assert process.poll() is None


def test_delete(front: Front, store: Store, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    put(store, process.pid, cgroups=(Cgroup(str(tmp_path / "cgroup"), 4, ("pids",), False), Cgroup(str(tmp_path / "gone"), 4, (), False)))
    (Path(store.directory("c1")) / "process-1.1").touch()
    assert front("--root", store.root, "delete", "c1").stdout.startswith(HANDED_OVER)
    process.kill()
    process.wait()
    done = front("--root", store.root, "delete", "c1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists(store.directory("c1")) and not (tmp_path / "cgroup").exists()


def test_delete_by_force(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid)
    assert front("--root", store.root, "delete", "--force", "c1").stdout == ""
    assert process.wait() == -signal.SIGKILL
    assert not os.path.exists(store.directory("c1"))


def test_what_runs_beside_init_is_pythons_to_end(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid, started=1)
    record = Path(store.directory("c1"), f"process-{process.pid}.{start_time(process.pid)}")
    record.touch()
    assert front("--root", store.root, "delete", "--force", "c1").stdout.startswith(HANDED_OVER)
    assert process.poll() is None and record.exists()


def test_what_is_in_a_cgroup_is_pythons_to_end(front: Front, store: Store, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "cgroup" / "below").mkdir(parents=True)
    put(store, process.pid, started=1, cgroups=(Cgroup(str(tmp_path / "cgroup"), 4, ("pids",), False),))
    assert front("--root", store.root, "delete", "c1").stdout.startswith(HANDED_OVER)
    assert os.path.exists(store.directory("c1"))


def test_more_than_processes_and_cgroups_is_pythons(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid, started=1, deletes=False)
    assert front("--root", store.root, "delete", "c1").stdout.startswith(HANDED_OVER)


def test_no_start_socket_is_pythons(front: Front, store: Store, process: subprocess.Popen[bytes]) -> None:
    put(store, process.pid)
    assert front("--root", store.root, "start", "c1").stdout.startswith(HANDED_OVER)
    assert not Path(store.directory("c1"), "failure").exists()


def test_closed_streams_stay_apart(front: Front, store: Store, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """What was closed is the null device, and no file of the container's."""
    file = put(store, process.pid)
    before = file.read_bytes()
    shell = f"exec {tmp_path}/bin/pyruntime --root {store.root} --log {tmp_path}/log state c1 <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
    assert file.read_bytes() == before and (tmp_path / "log").read_bytes() == b""


def test_without_the_python_program_it_says_so(tmp_path: Path) -> None:
    """Without /proc it does not know where it is itself."""
    shutil.copy(PROGRAM, tmp_path)
    told = subprocess.run(["chroot", tmp_path, "/pyruntime", "list"], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (127, "", "pyruntime: execute 'pyruntime-python': No such file or directory\n")
