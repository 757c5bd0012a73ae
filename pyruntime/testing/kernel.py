"""What only real containers can be asked: what a program sees inside, terminals, shared pid namespaces, user namespaces."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest

from pyruntime.errors import SetupError
from pyruntime.handles import Container, HandleRuntime, Process
from pyruntime.interface import Status, StdioOptions
from pyruntime.testing.bundles import without_pid_namespace
from pyruntime.testing.case import SLEEP, Case, ContractCase, read_all, read_line, specifies, within_time

OUT = StdioOptions(create_out=True)
TERMINAL: dict[str, Any] = {"terminal": True}


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Inside(ContractCase):
    """Programs that report what they see."""

    def output(self, case: Case, script: str, **changes: Any) -> list[str]:
        """The words that a shell script in an exec process of c1 writes."""
        pid = case.exec("c1", ["/bin/sh", "-c", script], OUT, **changes)
        out = case.runtime.get_stdio_pipes("c1", pid).out
        assert out is not None
        with out:
            text = read_all(out).decode()
        within_time(lambda: case.runtime.wait_on_process("c1", pid))
        return text.split()

    def test_init_is_the_first_process(self, case: Case) -> None:
        pid = case.run("c1", ["/bin/sh", "-c", "echo $$ $(hostname); exec cat"], StdioOptions(True, True))
        pipes = case.runtime.get_stdio_pipes("c1", pid)
        assert pipes.in_ is not None and pipes.out is not None
        with pipes.in_, pipes.out:
            assert read_line(pipes.out).split() == [b"1", b"contract"]

    @specifies(13, 14)
    def test_exec_has_its_own_environment(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        seen = self.output(case, "echo $(id -u) $(id -g) $(pwd) $NAME", cwd="/tmp", user={"uid": 12, "gid": 34},
                           env=["PATH=/bin", "NAME=value"])
        assert seen == ["12", "34", "/tmp", "value"]

    @specifies(62)
    def test_streams_that_were_not_asked_for_are_the_null_device(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        assert self.output(case, "readlink /proc/self/fd/0 && readlink /proc/self/fd/2") == ["/dev/null"] * 2

    @specifies(62)
    def test_no_descriptor_of_the_caller_gets_in(self, case: Case) -> None:
        leak = os.open("/", os.O_RDONLY)
        try:
            os.set_inheritable(leak, True)
            pid = case.run("c1", ["/bin/ls", "/proc/self/fd"], OUT)
            out = case.runtime.get_stdio_pipes("c1", pid).out
            assert out is not None
            with out:
                assert read_all(out).split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads
            case.container_in(Status.RUNNING, "c2")
            pid = case.exec("c2", ["/bin/ls", "/proc/self/fd"], OUT)
            out = case.runtime.get_stdio_pipes("c2", pid).out
            assert out is not None
            with out:
                assert read_all(out).split() == [b"0", b"1", b"2", b"3"]
        finally:
            os.close(leak)

    def test_processes_that_the_runtime_did_not_create(self, case: Case) -> None:
        init = case.run("c1", ["/bin/sh", "-c", "sleep 1000 & echo ready; wait"], OUT)
        out = case.runtime.get_stdio_pipes("c1", init).out
        assert out is not None
        with out:
            assert read_line(out) == b"ready\n"
            pid = case.exec("c1", SLEEP)
            processes = case.runtime.get_running_container_processes("c1")
            assert len(processes) == 3
            created = {process.pid: process.created_by_runtime for process in processes}
            assert created.pop(init) and created.pop(pid)
            assert list(created.values()) == [False]
            assert [process.pid for process in processes] == sorted(process.pid for process in processes)

    @specifies(58)
    def test_file_of_unknown_format(self, case: Case) -> None:
        program = case.rootfs / "bin" / "garbage"
        program.write_bytes(b"\x01garbage")
        program.chmod(0o755)
        case.container_in(Status.RUNNING)
        if self.differs("fails-after-exec"):
            pid = case.exec("c1", ["/bin/garbage"])
            assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code != 0
            case.run("c2", ["/bin/garbage"])
            assert within_time(lambda: case.runtime.wait_on_container("c2")).exit_code != 0
            return
        with pytest.raises(SetupError) as raised:
            case.exec("c1", ["/bin/garbage"])
        assert (raised.value.step, raised.value.errno) == ("execute program", errno.ENOEXEC)
        case.create("c2", ["/bin/garbage"])
        with pytest.raises(SetupError) as raised:
            case.runtime.start_container("c2")
        assert (raised.value.step, raised.value.errno) == ("execute program", errno.ENOEXEC)
        assert not case.runtime.container_exists("c2")

    def test_missing_cwd_of_init(self, case: Case) -> None:
        process = {"cwd": "/tmp/made"}
        case.run("c1", SLEEP, process=process, root={"readonly": False})
        assert (case.rootfs / "tmp" / "made").is_dir()

    @specifies(59)
    def test_signals_reach_a_handler(self, case: Case) -> None:
        script = "trap 'exit 5' TERM; echo ready; while true; do sleep 1000 & wait; done"
        pid = case.run("c1", ["/bin/sh", "-c", script], OUT)
        out = case.runtime.get_stdio_pipes("c1", pid).out
        assert out is not None
        with out:
            assert read_line(out) == b"ready\n"
            case.runtime.kill_container("c1", signal.SIGTERM)
            assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 5


class Memory(ContractCase):
    """A limit of memory that is reached."""

    @specifies(38)
    def test_want_of_memory_is_told(self, case: Case) -> None:
        limit: dict[str, Any] = {"linux": {"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}}
        eats = ["/bin/sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]
        case.run("c1", SLEEP, **limit)
        pid = case.exec("c1", ["/bin/true"])
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).oom_killed is False
        pid = case.exec("c1", eats)
        state = within_time(lambda: case.runtime.wait_on_process("c1", pid))
        assert (state.exit_code, state.signal, state.oom_killed) == (137, signal.SIGKILL, True)
        case.run("c2", eats, **limit)
        state = within_time(lambda: case.runtime.wait_on_container("c2"))
        assert (state.exit_code, state.signal, state.oom_killed) == (137, signal.SIGKILL, True)

    def test_nothing_is_told_without_a_limit(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        assert case.stop("c1").oom_killed is None


class SharedPidNamespace(ContractCase):
    """Where the kernel does not end the other processes with init."""

    def test_init_death_ends_the_rest(self, case: Case) -> None:
        script = "sleep 1000 & sleep 1000 & echo ready; exec sleep 1000"
        init = case.run("c1", ["/bin/sh", "-c", script], OUT, linux=without_pid_namespace())
        out = case.runtime.get_stdio_pipes("c1", init).out
        assert out is not None
        with out:
            assert read_line(out) == b"ready\n"
        pid = case.exec("c1", SLEEP)
        pids = [process.pid for process in case.runtime.get_running_container_processes("c1")]
        assert len(pids) == 4 and init in pids and pid in pids
        case.runtime.kill_container("c1", signal.SIGTERM)
        assert within_time(lambda: case.runtime.wait_on_container("c1")).signal == signal.SIGTERM
        assert [pid for pid in pids if _is_running(pid)] == []
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).signal == signal.SIGKILL
        case.runtime.delete_container("c1")

    @specifies(60)
    def test_delete_by_force_ends_the_rest(self, case: Case) -> None:
        script = "sleep 1000 & echo ready; exec sleep 1000"
        init = case.run("c1", ["/bin/sh", "-c", script], OUT, linux=without_pid_namespace())
        out = case.runtime.get_stdio_pipes("c1", init).out
        assert out is not None
        with out:
            assert read_line(out) == b"ready\n"
        case.exec("c1", SLEEP)
        pids = [process.pid for process in case.runtime.get_running_container_processes("c1")]
        assert len(pids) == 3
        case.runtime.delete_container("c1", force=True)
        assert [pid for pid in pids if _is_running(pid)] == []


class Terminals(ContractCase):
    """`process.terminal`."""

    @specifies(11)
    @pytest.mark.parametrize("who", ["init", "exec"])
    def test_terminal(self, case: Case, who: str) -> None:
        script = "tty; read line; stty size; echo got $line"
        if who == "init":
            pid = case.run("c1", ["/bin/sh", "-c", script], process=TERMINAL)
        else:
            case.container_in(Status.RUNNING)
            pid = case.exec("c1", ["/bin/sh", "-c", script], **TERMINAL)
        pipes = case.runtime.get_stdio_pipes("c1", pid)
        assert pipes.in_ is not None and pipes.out is not None and pipes.err is None
        with pipes.in_, pipes.out:
            assert pipes.in_.isatty() and pipes.out.isatty()
            assert read_line(pipes.out).startswith((b"/dev/pts/", b"/dev/console"))
            process = Process(Container(cast(HandleRuntime, case.runtime), "c1"), pid)
            process.resize_console(width=123, height=45)
            pipes.in_.write(b"some text\n")
            assert read_all(pipes.out).split(b"\r\n") == [b"some text", b"45 123", b"got some text", b""]
        assert process.wait().exit_code == 0

    def test_no_terminal_to_resize(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        with pytest.raises(SetupError):
            Container(cast(HandleRuntime, case.runtime), "c1").resize_console(80, 24)
