"""Containers that CRIU writes to files and restores: Debian's does not know the newest kernels, but that of the virtual machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from counting import COUNTER, Counter, unchanged
from lab import bind, cgroup_file, namespaces, with_mounts

from pyruntime import Status, StdioOptions
from pyruntime.checkpoint import CgroupsMode
from pyruntime.errors import CheckpointError, HookFailedError, InvalidBundleError, SetupError


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
