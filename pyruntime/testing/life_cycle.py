"""From create to delete, and what is told of a container on the way."""

from __future__ import annotations

import datetime
import os
import signal

import pytest

from pyruntime.errors import ContainerExistsError, ContainerNotFoundError, InvalidIdError
from pyruntime.interface import ProcessExitState, Runtime, Status
from pyruntime.testing.case import SLEEP, Case, ContractCase, in_thread, specifies, within_time


class LifeCycle(ContractCase):
    """The whole way of a container."""

    def test_is_a_runtime(self, case: Case) -> None:
        assert isinstance(case.runtime, Runtime)

    @specifies(56, 57, 58, 59, 60)
    def test_from_create_to_delete(self, case: Case) -> None:
        runtime = case.runtime
        assert not runtime.container_exists("c1")
        pid = case.create("c1", ["/bin/sh", "-c", "exit 7"])
        state = runtime.get_container_state("c1")
        assert (state.id, state.pid, state.status) == ("c1", pid, Status.CREATED)
        runtime.start_container("c1")
        exit_state = within_time(lambda: runtime.wait_on_container("c1"))
        assert (exit_state.exit_code, exit_state.signal) == (7, None)
        state = runtime.get_container_state("c1")
        assert (state.pid, state.status) == (0, Status.STOPPED)
        assert runtime.get_init_pid("c1") == pid
        assert runtime.container_exists("c1")
        runtime.delete_container("c1")
        assert not runtime.container_exists("c1")
        with pytest.raises(ContainerNotFoundError) as raised:
            runtime.get_container_state("c1")
        assert raised.value.id == "c1"

    @specifies(56)
    def test_state_describes_the_bundle(self, case: Case) -> None:
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
        bundle = case.bundle("c1", SLEEP, annotations={"org.example.key": "value"})
        case.ids.append("c1")
        case.runtime.create_container("c1", bundle, case.no_streams)
        state = case.runtime.get_container_state("c1")
        assert state.oci_version
        assert os.path.samefile(state.bundle_path, bundle)
        assert os.path.samefile(state.rootfs_path, case.rootfs)
        assert os.path.isabs(state.bundle_path) and os.path.isabs(state.rootfs_path)
        assert before <= state.created <= datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
        assert state.annotations == {"org.example.key": "value"}

    @specifies(60)
    def test_id_can_be_used_again(self, case: Case) -> None:
        for code in (1, 2):
            case.run("c1", ["/bin/sh", "-c", f"exit {code}"])
            assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == code
            case.runtime.delete_container("c1")

    def test_signal_is_told_as_128_and_its_number(self, case: Case) -> None:
        case.run("c1", SLEEP)
        case.runtime.kill_container("c1", signal.SIGKILL)
        exit_state = within_time(lambda: case.runtime.wait_on_container("c1"))
        assert (exit_state.exit_code, exit_state.signal) == (128 + signal.SIGKILL, signal.SIGKILL)

    def test_resources_are_accounted(self, case: Case) -> None:
        case.run("c1", ["/bin/true"])
        exit_state = within_time(lambda: case.runtime.wait_on_container("c1"))
        assert exit_state.exit_code == 0
        assert exit_state.user_seconds is not None and exit_state.user_seconds >= 0
        assert exit_state.system_seconds is not None and exit_state.system_seconds >= 0
        assert exit_state.peak_memory_bytes is not None and exit_state.peak_memory_bytes >= 0

    @specifies(59)
    def test_killed_before_start(self, case: Case) -> None:
        case.create("c1", ["/bin/true"])
        case.runtime.kill_container("c1", signal.SIGKILL)
        assert within_time(lambda: case.runtime.wait_on_container("c1")).signal == signal.SIGKILL
        assert case.runtime.get_container_state("c1").status == Status.STOPPED

    def test_every_waiter_gets_the_status(self, case: Case) -> None:
        case.run("c1", SLEEP)
        pid = case.runtime.get_init_pid("c1")
        waiters = [in_thread(lambda: case.runtime.wait_on_container("c1")) for _ in range(4)]
        waiters += [in_thread(lambda: case.runtime.wait_on_process("c1", pid)) for _ in range(4)]
        case.runtime.kill_container("c1", signal.SIGKILL)
        results: list[ProcessExitState] = [result() for result in waiters]
        assert {result.exit_code for result in results} == {137}
        assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 137

    def test_list_is_sorted_and_has_every_container(self, case: Case) -> None:
        assert case.runtime.list_container_states() == []
        for id, status in (("b", Status.RUNNING), ("c", Status.STOPPED), ("a", Status.CREATED), ("d", Status.PAUSED)):
            case.container_in(status, id)
        listed = case.runtime.list_container_states()
        assert [(state.id, state.status) for state in listed] == [
            ("a", Status.CREATED), ("b", Status.RUNNING), ("c", Status.STOPPED), ("d", Status.PAUSED)]
        assert listed == [case.runtime.get_container_state(id) for id in "abcd"]

    def test_list_survives_a_damaged_entry(self, case: Case) -> None:
        case.container_in(Status.RUNNING, "a")
        case.container_in(Status.RUNNING, "b")
        path = self.state_file(case.root, "a")
        if self.differs("no-state-file"):
            assert path is None and [file for file in case.root.rglob("*") if not file.is_dir()] == []
            return
        assert path is not None
        whole = path.read_bytes()
        path.write_bytes(b"{")
        try:
            assert [state.id for state in case.runtime.list_container_states()] == ["b"]
        finally:
            path.write_bytes(whole)
        assert [state.id for state in case.runtime.list_container_states()] == ["a", "b"]

    @specifies(56)
    def test_second_runtime_on_the_same_root(self, case: Case) -> None:
        pid = case.create("c1", SLEEP)
        second = self.new_runtime(case.root)
        assert second.get_container_state("c1") == case.runtime.get_container_state("c1")
        assert second.get_init_pid("c1") == pid
        second.start_container("c1")
        assert case.runtime.get_container_state("c1").status == Status.RUNNING
        other = second.exec_process("c1", {"args": ["/bin/sh", "-c", "exit 4"], "cwd": "/"}, case.no_streams)
        assert within_time(lambda: second.wait_on_process("c1", other)).exit_code == 4
        second.pause_container("c1")
        assert [state.status for state in case.runtime.list_container_states()] == [Status.PAUSED]
        case.runtime.resume_container("c1")
        second.kill_container("c1", signal.SIGKILL)
        assert within_time(lambda: second.wait_on_container("c1")).exit_code == 137
        assert within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 137
        second.delete_container("c1")
        assert not case.runtime.container_exists("c1")

    @pytest.mark.parametrize("id", ["", ".", "..", ".hidden", "a/b", "/a", "a b", "a\0b", "a\n", "ä", "x" * 1025, "x" * 256])
    def test_invalid_id(self, case: Case, id: str) -> None:
        bundle = case.bundle("valid", SLEEP)
        with pytest.raises(InvalidIdError):
            case.runtime.create_container(id, bundle, case.no_streams)
        for operation in (case.runtime.start_container, case.runtime.get_container_state, case.runtime.delete_container):
            with pytest.raises((InvalidIdError, ContainerNotFoundError)):
                operation(id)
        assert case.runtime.list_container_states() == []

    @pytest.mark.parametrize("id", ["-x", "--help", "+", "_", "A.b_c-d+e", "1", "x" * 100])
    def test_valid_id(self, case: Case, id: str) -> None:
        case.run(id, ["/bin/true"])
        assert within_time(lambda: case.runtime.wait_on_container(id)).exit_code == 0
        assert [state.id for state in case.runtime.list_container_states()] == [id]
        case.runtime.delete_container(id)

    @specifies(57)
    def test_id_is_taken(self, case: Case) -> None:
        pid = case.create("c1", SLEEP)
        with pytest.raises(ContainerExistsError) as raised:
            case.create("c1", SLEEP)
        assert raised.value.id == "c1"
        assert case.runtime.get_container_state("c1").pid == pid
