"""Containers that CRIU writes to files and restores: Debian's does not know the newest kernels, but that of the virtual machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, cgroup_file, namespaces, with_mounts

from pyruntime import Status, StdioOptions
from pyruntime.checkpoint import CgroupsMode, CheckpointOptions, RestoreOptions
from pyruntime.checkpoint.manifest import FILE
from pyruntime.checkpoint.mounts import parse_mountinfo
from pyruntime.errors import CheckpointError, HookFailedError, InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.testing.snapshot import HostSnapshot

COUNTER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
COMMAND = f"{sysconfig.get_path('scripts')}/pyruntime"
PIPES = StdioOptions(create_out=True)


class Counter:
    """A container p1 that writes numbers, line by line, and its checkpoint."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.runtime = lab.runtime
        self.image = lab.directory / "image"
        self.bundle = ""
        self.pid = 0
        self.last = 0

    def run(self, script: str = COUNTER, stdio: StdioOptions = PIPES, **changes: Any) -> int:
        self.bundle = self.lab.bundle(script, **changes)
        self.pid = self.runtime.create_container("p1", self.bundle, stdio)
        self.runtime.start_container("p1")
        return self.pid

    def count(self, more: int = 3) -> None:
        """The next numbers, and none is missing."""
        out = self.runtime.get_stdio_pipes("p1", self.pid).out
        assert out is not None
        data = b""
        while data.count(b"\n") < more:
            chunk = os.read(out.fileno(), 1)
            assert chunk, data
            data += chunk
        self._compare(data)

    def drain(self) -> None:
        """What was written before the end."""
        self._compare(self.lab.read("p1", self.pid).encode())

    def _compare(self, data: bytes) -> None:
        numbers = [int(line) for line in data.split()]
        assert numbers == list(range(self.last + 1, self.last + 1 + len(numbers))), (self.last, numbers)
        self.last += len(numbers)

    def checkpoint(self, **options: Any) -> None:
        self.runtime.checkpoint_container("p1", str(self.image), CheckpointOptions(**options))

    def stop(self, **options: Any) -> None:
        """A checkpoint, and nothing of the container is left."""
        self.checkpoint(**options)
        self.drain()
        self.runtime.wait_on_container("p1")
        self.runtime.delete_container("p1")

    def restore(self, stdio: StdioOptions = PIPES, id: str = "p1", **options: Any) -> int:
        self.pid = self.runtime.restore_container(id, self.bundle, str(self.image), stdio, RestoreOptions(**options))
        return self.pid

    def mounts(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """Without their numbers, which are others after a restore."""
        entries = parse_mountinfo(Path(f"/proc/{self.pid}/mountinfo").read_text())
        return sorted((entry.mount_point, entry.root, entry.kind, tuple(sorted(entry.flags))) for entry in entries)


@pytest.fixture
def counter(reachable: Lab) -> Iterator[Counter]:
    yield Counter(reachable)


def test_a_running_counter_goes_on(counter: Counter) -> None:
    counter.run()
    counter.count()
    before = counter.mounts()
    counter.checkpoint()
    state = counter.runtime.get_container_state("p1")
    assert (state.status, state.pid) == (Status.STOPPED, 0)
    ended = counter.runtime.wait_on_container("p1")
    assert (ended.exit_code, ended.signal) == (137, 9)
    counter.drain()
    counter.runtime.delete_container("p1")

    counter.restore()
    assert counter.runtime.get_container_state("p1").status is Status.RUNNING
    assert counter.mounts() == before
    counter.count()
    assert "/pyruntime/p1\n" in Path(f"/proc/{counter.pid}/cgroup").read_text()
    assert str(counter.pid) in cgroup_file("pids", "cgroup.procs", "cgroup.procs").read_text().split()
    # it is a container like any other
    assert counter.lab.exec("cat /proc/1/comm; hostname") == "sh\n" + counter.lab.exec("cat /proc/sys/kernel/hostname")
    assert [process.pid for process in counter.runtime.get_running_container_processes("p1")][0] == counter.pid
    counter.runtime.pause_container("p1")
    assert counter.runtime.get_container_state("p1").status is Status.PAUSED
    counter.runtime.resume_container("p1")
    counter.count()
    counter.runtime.kill_container("p1", signal.SIGKILL)
    assert counter.runtime.wait_on_container("p1").signal == 9
    counter.runtime.delete_container("p1")


def test_its_exit_code_after_a_restore(counter: Counter) -> None:
    counter.run("echo 1; read word; echo 2; exit $word", StdioOptions(create_in=True, create_out=True))
    counter.count(1)
    counter.stop()
    counter.restore(StdioOptions(create_in=True, create_out=True))
    typed = counter.runtime.get_stdio_pipes("p1", counter.pid).in_
    assert typed is not None
    typed.write(b"7\n")
    counter.count(1)
    assert counter.runtime.wait_on_container("p1").exit_code == 7


def test_it_goes_on_and_is_restored_besides(counter: Counter) -> None:
    counter.run()
    counter.count()
    counter.checkpoint(leave_running=True)
    assert counter.runtime.get_container_state("p1").status is Status.RUNNING
    counter.count()
    counter.runtime.kill_container("p1", signal.SIGKILL)
    counter.drain()
    last = counter.last
    counter.runtime.wait_on_container("p1")
    counter.runtime.delete_container("p1")
    for id in ("p1", "p2-of-the-same"):
        pid = counter.restore(id=id)
        out = counter.runtime.get_stdio_pipes(id, pid).out
        assert out is not None
        assert 3 <= int(os.read(out.fileno(), 100).split()[0]) <= last + 1
    assert counter.runtime.get_init_pid("p1") != counter.runtime.get_init_pid("p2-of-the-same")


def test_another_caller_has_made_it(counter: Counter) -> None:
    """Who makes the checkpoint knows the container from its record alone, and so who deletes the restored one."""
    from pyruntime import NativeRuntime

    counter.run()
    counter.count()
    other = NativeRuntime(str(counter.lab.root))
    other.checkpoint_container("p1", str(counter.image))
    counter.drain()
    counter.runtime.wait_on_container("p1")
    counter.runtime.delete_container("p1")
    counter.restore()
    counter.count()
    assert other.get_container_state("p1").status is Status.RUNNING
    other.delete_container("p1", force=True)
    assert not counter.runtime.container_exists("p1")


def test_a_paused_one(counter: Counter) -> None:
    counter.run()
    counter.count()
    counter.runtime.pause_container("p1")
    counter.checkpoint(leave_running=True)
    assert counter.runtime.get_container_state("p1").status is Status.PAUSED
    counter.runtime.resume_container("p1")
    counter.count()


def test_memory_written_before(counter: Counter) -> None:
    """A pre-dump lets it go on, and the checkpoint refers to it."""
    counter.run()
    counter.count()
    counter.image = counter.lab.directory / "before"
    counter.checkpoint(pre_dump=True)
    counter.count()
    counter.image = counter.lab.directory / "image"
    counter.stop(parent_path="../before")
    assert os.readlink(counter.image / "parent") == "../before"
    counter.restore()
    counter.count()


def test_a_work_path_has_the_logs(counter: Counter) -> None:
    work = counter.lab.directory / "work"
    counter.run()
    counter.stop(work_path=str(work))
    counter.restore(work_path=str(work))
    assert {"dump.log", "restore.log"} < {path.name for path in work.iterdir()}
    assert not list(counter.image.glob("*.log"))
    counter.count()


def test_files_and_binds(counter: Counter) -> None:
    """Of the host's directories what is in them; of the container's own what was in them. What was read-only is so again."""
    directory, file = counter.lab.directory / "data", counter.lab.directory / "file"
    directory.mkdir()
    file.write_text("of the host\n")
    counter.run(f"echo kept >/dev/shm/kept; exec 5>>/data/log; echo begun >&5; {COUNTER.replace('echo $i', 'echo $i; echo $i >&5')}",
                mounts=with_mounts(bind(directory, "rbind", to="/data"), bind(file, "bind", "ro", "nosuid", to="/etc/file"),
                                   {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=64k"]}),
                linux={"readonlyPaths": ["/proc/sys", "/etc"], "maskedPaths": ["/proc/kcore", "/proc/acpi", "/etc/passwd"]})
    counter.count()
    before = counter.mounts()
    counter.stop()
    file.write_text("changed\n")
    counter.restore()
    assert counter.mounts() == before
    counter.count()
    script = "cat /dev/shm/kept /etc/file; echo x >/etc/file; echo x >/scratch/x; test -s /etc/passwd || echo masked"
    assert counter.lab.exec(script) == "kept\nchanged\nmasked\n"
    lines = (directory / "log").read_text().split()
    assert lines == ["begun", *map(str, range(1, len(lines)))] and len(lines) > counter.last


def test_a_writable_root(counter: Counter) -> None:
    counter.run(root={"readonly": False})
    counter.count()
    assert counter.lab.exec("echo here >/made; cat /made") == "here\n"
    counter.stop()
    counter.restore()
    assert counter.lab.exec("cat /made; rm /made; ls /made 2>&1") == "here\nls: /made: No such file or directory\n"
    counter.count()


def test_a_copy_of_the_root(counter: Counter) -> None:
    """Somewhere else: it does not have what was made in the first one for mounts."""
    data = counter.lab.directory / "data"
    data.mkdir()
    (data / "here").touch()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/made/for/mount"), bind(data / "here", "bind", to="/made/file")))
    counter.count()
    counter.stop()
    shutil.rmtree(counter.lab.rootfs / "made")
    counter.restore()
    counter.count()
    assert counter.lab.exec("ls /made /made/for/mount") == "/made:\nfile\nfor\n\n/made/for/mount:\nhere\n"


def test_a_terminal(counter: Counter) -> None:
    counter.run("stty -echo; echo 1; while read word; do echo $word; tty; done", StdioOptions(), process={"terminal": True})
    counter.count(1)
    counter.stop()
    counter.restore(StdioOptions())
    pipes = counter.runtime.get_stdio_pipes("p1", counter.pid)
    assert pipes.in_ is not None and pipes.out is not None and os.isatty(pipes.out.fileno())
    pipes.in_.write(b"typed\n")
    shown = b""
    while shown.count(b"\n") < 2:
        shown += os.read(pipes.out.fileno(), 100)
    assert shown.split() == [b"typed", b"/dev/pts/0"]
    counter.runtime.resize_console("p1", counter.pid, 77, 33)


def test_streams_of_the_caller(counter: Counter) -> None:
    """What was one of the caller's files is another one's; the null device stays what it is."""
    first, second = counter.lab.directory / "first", counter.lab.directory / "second"
    with first.open("wb") as out:
        counter.run(stdio=StdioOptions(out_fd=out.fileno()))
    while first.stat().st_size < 10:
        os.sched_yield()
    counter.checkpoint()
    counter.runtime.wait_on_container("p1")
    counter.runtime.delete_container("p1")
    with pytest.raises(SetupError, match="connect in: that stream of the container was the null device"):
        counter.restore(StdioOptions(create_in=True))
    second.write_bytes(first.read_bytes())
    with second.open("ab") as out:
        counter.restore(StdioOptions(out_fd=out.fileno()))
    size = first.stat().st_size
    while second.stat().st_size < size + 10:
        os.sched_yield()
    assert first.stat().st_size == size
    counter.runtime.delete_container("p1", force=True)
    numbers = [int(line) for line in second.read_text().split()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_cgroups_below_its_own(counter: Counter) -> None:
    counter.run()
    counter.count()
    below = cgroup_file("pids", "below", "below")
    below.mkdir()
    counter.stop(cgroups_mode=CgroupsMode.IGNORE)
    counter.restore()
    counter.count()
    assert not below.exists()


def test_limits_are_those_of_the_bundle(counter: Counter) -> None:
    counter.run(linux={"resources": {"pids": {"limit": 50}, "memory": {"limit": 200 << 20}}})
    counter.count()
    counter.stop()
    counter.restore()
    counter.count()
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == "50\n"
    assert cgroup_file("memory", "memory.limit_in_bytes", "memory.max").read_text() == f"{200 << 20}\n"


def test_the_network_of_somebody_else(counter: Counter) -> None:
    """A namespace that is joined is not in the checkpoint: it has to be there."""
    path = counter.lab.directory / "net"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    try:
        counter.run(linux={"namespaces": namespaces("pid", "ipc", "uts", "mount", "cgroup", network=str(path))})
        counter.count()
        inode = os.stat(path).st_ino
        assert os.stat(f"/proc/{counter.pid}/ns/net").st_ino == inode
        counter.stop()
        counter.restore()
        assert os.stat(f"/proc/{counter.pid}/ns/net").st_ino == inode
        counter.count()
    finally:
        counter.lab.delete_all()
        subprocess.run(["umount", str(path)], check=True)


def test_the_hosts_network_and_ipc(counter: Counter) -> None:
    counter.run(linux={"namespaces": namespaces("pid", "uts", "mount")})
    counter.count()
    counter.stop()
    counter.restore()
    assert os.stat(f"/proc/{counter.pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
    counter.count()


def test_hooks(counter: Counter) -> None:
    """Those that the host runs for a container that is made, and at its end."""
    log = counter.lab.directory / "hooks"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f'grep -o \'"status":"[a-z]*"\' | sed "s/^/$0 /" >>{log}']}

    def named(name: str) -> list[dict[str, Any]]:
        return [{**hook, "args": [*hook["args"], name]}]

    counter.run(hooks={"prestart": named("prestart"), "createRuntime": named("createRuntime"), "poststart": named("poststart"),
                       "poststop": named("poststop")})
    counter.count()
    counter.stop()
    log.write_text("")
    counter.restore()
    counter.runtime.delete_container("p1", force=True)
    assert log.read_text().splitlines() == [f'{name} "status":"{status}"' for name, status in (
        ("prestart", "creating"), ("createRuntime", "creating"), ("poststop", "stopped"))]


def test_a_hook_that_fails(counter: Counter) -> None:
    counter.run()
    counter.stop()
    counter.bundle = counter.lab.bundle(COUNTER, hooks={"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]}]})
    with unchanged(counter), pytest.raises(HookFailedError) as caught:
        counter.restore()
    assert (caught.value.exit_code, caught.value.json_path) == (3, "$.hooks.createRuntime[0]")


class unchanged:  # noqa: N801  # a context manager
    """Nothing of the host has changed afterwards, and there is no container."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.before = HostSnapshot.take(counter.lab.root, counter.image)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        log = str(self.counter.image / "restore.log")
        now = HostSnapshot.take(self.counter.lab.root, self.counter.image)
        found = [line for line in now.differences(self.before, ["p1"]) if not line.endswith(log)]
        assert found == [], found
        assert not self.counter.runtime.container_exists("p1")


def test_a_connection_that_nobody_allowed(counter: Counter) -> None:
    """CRIU refuses, and its own words are told; the container goes on."""
    counter.run(f"nc -l -p 7000 -e sleep 1000 & sleep 0.5; nc 127.0.0.1 7000 </dev/zero >/dev/null & sleep 0.5; {COUNTER}")
    counter.count()
    with pytest.raises(CheckpointError, match="Connected TCP socket") as caught:
        counter.checkpoint()
    error = caught.value
    assert error.log_file == f"{counter.image}/dump.log" and any("tcp-established" in line for line in error.log_excerpt), error.log_excerpt
    assert [path.name for path in counter.image.iterdir()] == ["dump.log"]
    assert counter.runtime.get_container_state("p1").status is Status.RUNNING
    counter.count()


def test_a_damaged_image(counter: Counter) -> None:
    counter.run()
    counter.stop()
    (counter.image / "pstree.img").write_bytes(b"nothing")
    with unchanged(counter), pytest.raises(CheckpointError) as caught:
        counter.restore()
    assert caught.value.log_file == f"{counter.image}/restore.log" and caught.value.log_excerpt


def test_a_bundle_that_does_not_fit(counter: Counter) -> None:
    directory = counter.lab.directory / "data"
    directory.mkdir()
    counter.run(mounts=with_mounts(bind(directory, "bind", to="/data")))
    counter.stop()
    for changes, json_path in (({}, "$.mounts"), ({"process": {"terminal": True}}, "$.process.terminal"),
                               ({"linux": {"namespaces": namespaces("pid", "mount")}, "hostname": None}, "$.linux.namespaces")):
        counter.bundle = counter.lab.bundle(COUNTER, **changes)
        with unchanged(counter), pytest.raises(InvalidBundleError) as caught:
            counter.restore()
        assert caught.value.json_path == json_path and caught.value.file == f"{counter.bundle}/config.json"


# the command line


class Line:
    """The command on the lab's root, with a file as its standard output."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.output = lab.directory / "output"
        self.image = str(lab.directory / "image")

    def __call__(self, *arguments: str, input: str = "", code: int = 0) -> str:
        """What it has written to standard error."""
        with self.output.open("ab") as out:
            ended = subprocess.run([COMMAND, "--root", str(self.lab.root), *arguments], stdout=out, stderr=subprocess.PIPE, text=True,
                                   check=False, input=input, timeout=120)
        assert ended.returncode == code, ended
        return ended.stderr

    def detach(self, *arguments: str) -> None:
        """What outlives the command has the file as its output, and nothing else of the test's."""
        with self.output.open("ab") as out:
            subprocess.run([COMMAND, "--root", str(self.lab.root), *arguments], stdin=subprocess.DEVNULL, stdout=out,
                           stderr=subprocess.DEVNULL, check=True, timeout=120)

    def numbers(self, more: int = 3) -> list[int]:
        """Once there are so many more."""
        size = self.output.stat().st_size
        while self.output.stat().st_size < size + 4 * more:
            os.sched_yield()
        return [int(line) for line in self.output.read_text().split()]


@pytest.fixture
def line(lab: Lab) -> Iterator[Line]:
    yield Line(lab)


def start(line: Line, script: str = COUNTER, **changes: Any) -> str:
    """A container whose streams outlive the command; its bundle."""
    bundle = line.lab.bundle(script, **changes)
    line.detach("run", "--detach", "--bundle", bundle, "p1")
    return bundle


def test_commands(line: Line) -> None:
    bundle = start(line)
    line.numbers()
    line("checkpoint", "--image-path", line.image, "--leave-running", "--file-locks", "--tcp-established", "p1")
    line.numbers()
    shutil.rmtree(line.image)
    line("checkpoint", "--image-path", line.image, "--work-path", str(line.lab.directory / "work"), "--manage-cgroups-mode", "ignore", "p1")
    assert "container 'p1' does not exist" in line("state", "p1", code=1)
    before = [int(text) for text in line.output.read_text().split()]
    pid_file = line.lab.directory / "pid"
    line.detach("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "--pid-file", str(pid_file), "--no-pivot",
                "--no-subreaper", "--manage-cgroups-mode", "ignore", "p1")
    assert line.lab.runtime.get_container_state("p1").pid == int(pid_file.read_text())
    after = line.numbers()
    assert after == list(range(1, len(after) + 1)) and len(after) > len(before)
    line("delete", "--force", "p1")


def test_restore_in_the_foreground(line: Line) -> None:
    """Its exit code is the command's; it is deleted then."""
    bundle = start(line, "i=0; while [ ! -e /dev/shm/end ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 6")
    line.numbers()
    line("exec", "p1", "true")
    line("checkpoint", "--image-path", line.image, "p1")
    process = subprocess.Popen([COMMAND, "--root", str(line.lab.root), "restore", "--bundle", bundle, "--image-path", line.image, "p1"],
                               stdin=subprocess.DEVNULL, stdout=line.output.open("ab"), stderr=subprocess.PIPE)
    line.numbers()
    line("exec", "p1", "touch", "/dev/shm/end")
    assert process.wait(60) == 6 and process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()
    assert not line.lab.runtime.container_exists("p1")


def test_restore_to_a_console_socket(line: Line) -> None:
    path = str(line.lab.directory / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        bundle = line.lab.bundle("stty -echo; while read word; do echo $word; done", process={"terminal": True})
        line("run", "--detach", "--bundle", bundle, "--console-socket", path, "p1")
        first = receive(listener)
        line("checkpoint", "--image-path", line.image, "p1")
        assert "there is no --console-socket" in line("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "p1", code=1)
        assert not line.lab.runtime.container_exists("p1")
        line("restore", "--bundle", bundle, "--image-path", line.image, "--detach", "--console-socket", path, "p1")
        second = receive(listener)
    os.write(second, b"typed\n")
    assert os.read(second, 100) == b"typed\r\n"
    line("delete", "--force", "p1")
    os.close(first)
    os.close(second)


def receive(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        name, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
    assert name.startswith(b"/dev/pts/")
    return descriptors[0]


# hostile roots and images


def test_a_mount_point_that_looks_like_criu_s_own_words(counter: Counter) -> None:
    """`x]:/etc` in a list of mount points and keys could say that /x is the host's /etc."""
    data = counter.lab.directory / "data"
    data.mkdir()
    (counter.lab.rootfs / "link").symlink_to("/x]:/etc")
    counter.run(mounts=with_mounts(bind(data, "bind", to="/link")))
    counter.count()
    with pytest.raises(CheckpointError, match=r"mount '/x\]:/etc' has '\]:' in its name"):
        counter.checkpoint()
    assert not counter.image.exists()
    counter.count()


def test_brackets_that_mean_nothing(counter: Counter) -> None:
    data = counter.lab.directory / "data"
    data.mkdir()
    (data / "here").touch()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/app/[id]"), bind(data, "bind", "ro", to="/app/[id")))
    counter.count()
    before = counter.mounts()
    counter.stop()
    counter.restore()
    assert counter.mounts() == before and counter.lab.exec("ls '/app/[id]'") == "here\n"
    counter.count()


@pytest.mark.parametrize("target", ["/etc", "/../../../../etc", "etc"])
def test_a_link_in_the_root_where_a_mount_was(counter: Counter, target: str) -> None:
    """Put there between the checkpoint and the restore: nothing is mounted anywhere else, and no container is left that has it."""
    data = counter.lab.directory / "data"
    data.mkdir()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/data")))
    counter.stop()
    (counter.lab.rootfs / "data").rmdir()
    (counter.lab.rootfs / "data").symlink_to(target)
    with unchanged(counter), pytest.raises(SetupError):
        counter.restore()


def test_a_link_in_a_volume_that_leads_to_the_host(counter: Counter) -> None:
    """What was mounted from below a volume is a link to the host's /etc now."""
    volume = counter.lab.directory / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub" / "own").touch()
    counter.run(mounts=with_mounts(bind(volume, "rbind", to="/data"), bind(volume / "sub", "bind", to="/sub")),
                linux={"readonlyPaths": ["/data/sub"]})
    counter.count()
    counter.stop()
    os.rename(volume / "sub", volume / "was")
    (volume / "sub").symlink_to("/etc")
    with unchanged(counter), pytest.raises(SetupError):
        counter.restore()


def test_an_image_that_makes_a_mount_writable(counter: Counter) -> None:
    """What config.json has read-only is so before CRIU touches it, whatever the image says."""
    data = counter.lab.directory / "data"
    data.mkdir()
    changes: dict[str, Any] = {"mounts": with_mounts(bind(data, "bind", to="/data"))}
    counter.run(**changes)
    counter.stop()
    counter.bundle = counter.lab.bundle(COUNTER, mounts=with_mounts(bind(data, "bind", "ro", to="/data")))
    with unchanged(counter), pytest.raises(CheckpointError, match="'/data' is not ro"):
        counter.restore()


def test_an_image_that_asks_for_another_mount(counter: Counter) -> None:
    """Where a mount comes from is in config.json; what the checkpoint says of it is a place in that list, or a device of the container's."""
    data = counter.lab.directory / "data"
    data.mkdir()
    counter.run(mounts=with_mounts(bind(data, "bind", to="/data")))
    counter.stop()
    manifest = counter.image / FILE
    text = manifest.read_text()
    index = len(with_mounts())
    assert f'{{"mount":{index}}}' in text
    for origin, error in (('{"mount":99}', InvalidBundleError), ('{"mount":-1}', CheckpointError), ('{"device":[8,0,1]}', InvalidBundleError),
                          (f'{{"mount":{index},"below":"/../../etc"}}', CheckpointError), ('{"cgroup":"none"}', InvalidBundleError),
                          ("{}", CheckpointError), ('{"is_root":true,"below":"/../../../etc"}', CheckpointError)):
        manifest.write_text(text.replace(f'{{"mount":{index}}}', origin))
        with unchanged(counter), pytest.raises(error):
            counter.restore()
    manifest.write_text(text)
    counter.restore()
    counter.count()


def test_in_a_user_namespace(counter: Counter) -> None:
    counter.run(linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    with pytest.raises(UnsupportedFieldError) as caught:
        counter.checkpoint()
    assert caught.value.json_path == f"$.linux.namespaces[{len(NAMESPACES)}]" and not counter.image.exists()
    counter.count()
