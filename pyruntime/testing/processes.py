"""Exec processes: lists, zombies, waiting, deleting."""

from __future__ import annotations

import functools
import signal
from typing import cast

import pytest

from pyruntime.errors import ProcessNotFoundError, StillRunningError
from pyruntime.handles import HandleRuntime
from pyruntime.interface import Status, StdioOptions
from pyruntime.spec import Process
from pyruntime.testing.bundles import without_pid_namespace
from pyruntime.testing.case import SLEEP, Case, ContractCase, in_thread, read_all, wait_for_end, within_time


class Processes(ContractCase):
    """What is run besides init."""

    @pytest.mark.parametrize("code", [0, 1, 42, 255])
    def test_exit_code(self, case: Case, code: int) -> None:
        case.container_in(Status.RUNNING)
        pid = case.exec("c1", ["/bin/sh", "-c", f"exit {code}"])
        exit_state = within_time(lambda: case.runtime.wait_on_process("c1", pid))
        assert (exit_state.exit_code, exit_state.signal) == (code, None)
        assert exit_state.user_seconds is not None and exit_state.peak_memory_bytes is not None

    def test_process_as_an_object(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        pid = case.runtime.exec_process("c1", Process(args=("/bin/sh", "-c", "exit 5"), cwd="/"), case.no_streams)
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 5

    def test_lists(self, case: Case) -> None:
        init = case.container_in(Status.RUNNING)
        pid = case.exec("c1", SLEEP)
        for processes in (case.runtime.get_running_container_processes("c1"),
                          case.runtime.get_all_container_processes("c1")):
            assert [process.pid for process in processes] == sorted((init, pid))
            assert all(process.created_by_runtime and not process.is_zombie for process in processes)
            assert [process.command for process in processes] == [list(SLEEP)] * 2

    def test_zombie_until_it_is_waited_for(self, case: Case) -> None:
        init = case.container_in(Status.RUNNING)
        pid = self._ended_process(case)
        assert [process.pid for process in case.runtime.get_running_container_processes("c1")] == [init]
        zombies = [process for process in case.runtime.get_all_container_processes("c1") if process.is_zombie]
        assert [(process.pid, process.created_by_runtime) for process in zombies] == [(pid, True)]
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0
        assert [process.pid for process in case.runtime.get_all_container_processes("c1")] == [init]
        # until it is deleted, the status is there for others
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 0

    def _ended_process(self, case: Case) -> int:
        """One that nobody has waited for."""
        pid = case.exec("c1", ["/bin/true"], StdioOptions(create_out=True))
        out = case.runtime.get_stdio_pipes("c1", pid).out
        assert out is not None
        with out:
            assert read_all(out) == b""
        wait_for_end(pid)
        return pid

    def test_delete(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        pid = case.exec("c1", SLEEP)
        with pytest.raises(StillRunningError) as raised:
            case.runtime.delete_process("c1", pid)
        assert (raised.value.id, raised.value.pid) == ("c1", pid)
        cast(HandleRuntime, case.runtime).kill_process("c1", pid, signal.SIGKILL)
        assert within_time(lambda: case.runtime.wait_on_process("c1", pid)).exit_code == 137
        cast(HandleRuntime, case.runtime).kill_process("c1", pid, signal.SIGKILL)  # too late is no error
        case.runtime.delete_process("c1", pid)
        for operation in (case.runtime.delete_process, case.runtime.wait_on_process, case.runtime.get_stdio_pipes):
            with pytest.raises(ProcessNotFoundError) as missing:
                operation("c1", pid)
            assert (missing.value.id, missing.value.pid) == ("c1", pid)

    def test_delete_one_that_nobody_waited_for(self, case: Case) -> None:
        init = case.container_in(Status.RUNNING)
        pid = self._ended_process(case)
        case.runtime.delete_process("c1", pid)
        assert [process.pid for process in case.runtime.get_all_container_processes("c1")] == [init]

    def test_every_waiter_gets_the_status(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        pid = case.exec("c1", SLEEP)
        waiters = [in_thread(lambda: case.runtime.wait_on_process("c1", pid)) for _ in range(5)]
        cast(HandleRuntime, case.runtime).kill_process("c1", pid, signal.SIGTERM)
        assert {(result().exit_code, result().signal) for result in waiters} == {(143, 15)}

    def test_waiting_for_the_container_waits_for_all(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        pids = [case.exec("c1", SLEEP) for _ in range(3)]
        waiter = in_thread(lambda: case.runtime.wait_on_container("c1"))
        case.runtime.kill_container("c1", signal.SIGKILL)
        assert waiter().exit_code == 137
        assert case.runtime.get_all_container_processes("c1") == []
        # they died with init's pid namespace
        assert [case.runtime.wait_on_process("c1", pid).exit_code for pid in pids] == [137] * 3

    def test_shared_pid_namespace_ends_with_init(self, case: Case) -> None:
        """The kernel ends the others only where init began the pid namespace; elsewhere the runtime does, on waiting."""
        init = case.run("c1", SLEEP, linux=without_pid_namespace())
        pids = [case.exec("c1", SLEEP) for _ in range(3)]
        waiters = [in_thread(lambda: case.runtime.wait_on_container("c1")) for _ in range(2)]
        case.runtime.kill_container("c1", signal.SIGTERM)
        assert [waiter().signal for waiter in waiters] == [signal.SIGTERM] * 2
        assert [within_time(functools.partial(case.runtime.wait_on_process, "c1", pid)).signal for pid in pids] == [signal.SIGKILL] * 3
        assert case.runtime.get_running_container_processes("c1") == []
        assert case.runtime.get_container_state("c1").status == Status.STOPPED and case.runtime.get_init_pid("c1") == init
        case.runtime.delete_container("c1")

    def test_zombies_of_many(self, case: Case) -> None:
        """Those that have ended are zombies in one list and absent in the other, until each is waited for."""
        init = case.container_in(Status.RUNNING)
        running = [case.exec("c1", SLEEP) for _ in range(2)]
        ended = [self._ended_process(case) for _ in range(3)]
        for _ in range(2):  # looking changes nothing
            listed = case.runtime.get_all_container_processes("c1")
            assert {process.pid for process in listed} == {init, *running, *ended}
            assert {process.pid for process in listed if process.is_zombie} == set(ended)
            assert all(process.created_by_runtime for process in listed)
            assert {process.pid for process in case.runtime.get_running_container_processes("c1")} == {init, *running}
        for i, pid in enumerate(ended, 1):
            assert within_time(functools.partial(case.runtime.wait_on_process, "c1", pid)).exit_code == 0
            zombies = [process.pid for process in case.runtime.get_all_container_processes("c1") if process.is_zombie]
            assert zombies == sorted(ended[i:])

    def test_waiters_before_and_after_the_end(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        pid = case.exec("c1", SLEEP)
        early = [in_thread(lambda: case.runtime.wait_on_process("c1", pid)) for _ in range(2)]
        cast(HandleRuntime, case.runtime).kill_process("c1", pid, signal.SIGKILL)
        first = [result() for result in early]
        late = [within_time(lambda: case.runtime.wait_on_process("c1", pid)) for _ in range(2)]
        assert first == late and {result.exit_code for result in first} == {137}

    def test_container_ends_although_nobody_waits_for_its_processes(self, case: Case) -> None:
        """A zombie in a pid namespace holds up init's end until its parent collects it (pid_namespaces(7))."""
        init = case.container_in(Status.RUNNING)
        self._ended_process(case)
        case.exec("c1", SLEEP)
        case.runtime.kill_container("c1", signal.SIGKILL)
        assert within_time(lambda: case.runtime.wait_on_process("c1", init)).exit_code == 137
        assert case.runtime.get_container_state("c1").status == Status.STOPPED
        case.runtime.delete_container("c1")

    def test_delete_container_with_processes(self, case: Case) -> None:
        case.container_in(Status.RUNNING)
        self._ended_process(case)
        case.exec("c1", SLEEP)
        case.runtime.delete_container("c1", force=True)
        assert case.runtime.list_container_states() == []

    def test_second_runtime_knows_exec_processes(self, case: Case) -> None:
        init = case.container_in(Status.RUNNING)
        pid = case.exec("c1", SLEEP)
        known = [process.pid for process in self.new_runtime(case.root).get_running_container_processes("c1")
                 if process.created_by_runtime]
        assert known == ([init] if self.differs("own-exec-only") else sorted((init, pid)))
