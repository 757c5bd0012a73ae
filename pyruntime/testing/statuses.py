"""Every operation on a missing, created, running, paused and stopped container."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pyruntime.errors import (
    ContainerExistsError,
    ContainerNotFoundError,
    ContainerRuntimeError,
    NotCreatedError,
    NotPausedError,
    NotRunningError,
    NotStoppedError,
    ProcessNotFoundError,
    StateError,
)
from pyruntime.interface import ContainerProcessState, ContainerState, StdioOptions, StdioPipes
from pyruntime.interface import Status as _Status
from pyruntime.testing.case import SLEEP, Case, ContractCase, in_thread, specifies, within_time

MISSING = "missing"
STATUSES: tuple[str, ...] = (MISSING, _Status.CREATED, _Status.RUNNING, _Status.PAUSED, _Status.STOPPED)
_NO_STREAMS = StdioOptions()
_NO_PROCESS = 4194305  # larger than any pid

# An operation on container c1, whose init has or had that pid.
Operation = Callable[[Case, int], Any]
# What comes of it: the error, or a check of the result.
Check = Callable[[Case, int, Any], bool]
Outcome = type[ContainerRuntimeError] | Check


def _create(case: Case, pid: int) -> int:
    return case.runtime.create_container("c1", case.bundle("c1", SLEEP), _NO_STREAMS)


def _wait_on_container(case: Case, pid: int) -> Any:
    """A container that has not stopped is killed while somebody waits for it."""
    waiter = in_thread(lambda: case.runtime.wait_on_container("c1"))
    with contextlib.suppress(NotRunningError, ContainerNotFoundError):
        case.stop("c1")
    return waiter()


def _returns_nothing(case: Case, pid: int, result: Any) -> bool:
    return result is None


def _becomes(status: _Status) -> Check:
    def check(case: Case, pid: int, result: Any) -> bool:
        state = case.runtime.get_container_state("c1")
        return result is None and state.status == status and state.pid == pid
    return check


def _is_gone(case: Case, pid: int, result: Any) -> bool:
    return result is None and not case.runtime.container_exists("c1") and case.runtime.list_container_states() == []


def _is_killed(case: Case, pid: int, result: Any) -> bool:
    return bool(within_time(lambda: case.runtime.wait_on_container("c1")).exit_code == 137)


def _is_killed_when_resumed(case: Case, pid: int, result: Any) -> bool:
    """In a cgroup v1 freezer a signal waits; in a v2 one SIGKILL does not, so that it may have ended."""
    with contextlib.suppress(NotPausedError):
        case.runtime.resume_container("c1")
    return _is_killed(case, pid, result)


def _has_status(status: _Status) -> Check:
    def check(case: Case, pid: int, state: ContainerState) -> bool:
        return state.status == status and state.pid == (0 if status == _Status.STOPPED else pid)
    return check


def _lists(status: _Status | None) -> Check:
    def check(case: Case, pid: int, states: list[ContainerState]) -> bool:
        return [(state.id, state.status) for state in states] == ([("c1", status)] if status else [])
    return check


def _is_init_alone(case: Case, pid: int, processes: list[ContainerProcessState]) -> bool:
    return [(process.pid, process.created_by_runtime, process.is_zombie) for process in processes] == [(pid, True, False)]


def _is_empty(case: Case, pid: int, result: Any) -> bool:
    return bool(result == [])


def _is_true(case: Case, pid: int, result: Any) -> bool:
    return result is True


def _is_false(case: Case, pid: int, result: Any) -> bool:
    return result is False


def _was_killed(case: Case, pid: int, result: Any) -> bool:
    return bool(result.exit_code == 137)


def _is_init_pid(case: Case, pid: int, result: Any) -> bool:
    return bool(result == pid)


def _are_no_pipes(case: Case, pid: int, result: Any) -> bool:
    return bool(result == StdioPipes())


def _is_process(case: Case, pid: int, result: Any) -> bool:
    return bool(result > 0 and within_time(lambda: case.runtime.wait_on_process("c1", result)).exit_code == 0)


_ABSENT, _UNKNOWN = ContainerNotFoundError, ProcessNotFoundError

TABLE: dict[str, tuple[Operation, tuple[Outcome, Outcome, Outcome, Outcome, Outcome]]] = {
    # operation: what is done; what comes of it on a container that is missing, created, running, paused, stopped
    "create_container": (
        _create,
        (lambda case, pid, result: _becomes(_Status.CREATED)(case, result, None), ContainerExistsError,
         ContainerExistsError, ContainerExistsError, ContainerExistsError)),
    "start_container": (
        lambda case, pid: case.runtime.start_container("c1"),
        (_ABSENT, _becomes(_Status.RUNNING), NotCreatedError, NotCreatedError, NotCreatedError)),
    "exec_process": (
        lambda case, pid: case.exec("c1", ["/bin/true"]),
        (_ABSENT, NotRunningError, _is_process, NotRunningError, NotRunningError)),
    "kill_container": (
        lambda case, pid: case.runtime.kill_container("c1", signal.SIGKILL),
        (_ABSENT, _is_killed, _is_killed, _is_killed_when_resumed, NotRunningError)),
    "delete_container": (
        lambda case, pid: case.runtime.delete_container("c1"),
        (_ABSENT, NotStoppedError, NotStoppedError, NotStoppedError, _is_gone)),
    "delete_container by force": (
        lambda case, pid: case.runtime.delete_container("c1", force=True),
        (_ABSENT, _is_gone, _is_gone, _is_gone, _is_gone)),
    "delete_process": (
        lambda case, pid: case.runtime.delete_process("c1", _NO_PROCESS),
        (_ABSENT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN)),
    "delete_process of init": (
        lambda case, pid: case.runtime.delete_process("c1", pid),
        (_ABSENT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN)),
    "pause_container": (
        lambda case, pid: case.runtime.pause_container("c1"),
        (_ABSENT, NotRunningError, _becomes(_Status.PAUSED), NotRunningError, NotRunningError)),
    "resume_container": (
        lambda case, pid: case.runtime.resume_container("c1"),
        (_ABSENT, NotPausedError, NotPausedError, _becomes(_Status.RUNNING), NotPausedError)),
    "get_container_state": (
        lambda case, pid: case.runtime.get_container_state("c1"),
        (_ABSENT, _has_status(_Status.CREATED), _has_status(_Status.RUNNING), _has_status(_Status.PAUSED),
         _has_status(_Status.STOPPED))),
    "container_exists": (
        lambda case, pid: case.runtime.container_exists("c1"),
        (_is_false, _is_true, _is_true, _is_true, _is_true)),
    "list_container_states": (
        lambda case, pid: case.runtime.list_container_states(),
        (_lists(None), _lists(_Status.CREATED), _lists(_Status.RUNNING), _lists(_Status.PAUSED),
         _lists(_Status.STOPPED))),
    "get_running_container_processes": (
        lambda case, pid: case.runtime.get_running_container_processes("c1"),
        (_ABSENT, _is_init_alone, _is_init_alone, _is_init_alone, _is_empty)),
    "get_all_container_processes": (
        lambda case, pid: case.runtime.get_all_container_processes("c1"),
        (_ABSENT, _is_init_alone, _is_init_alone, _is_init_alone, _is_empty)),
    "wait_on_process": (
        lambda case, pid: case.runtime.wait_on_process("c1", _NO_PROCESS),
        (_ABSENT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN)),
    "wait_on_container": (
        _wait_on_container,
        (_ABSENT, _was_killed, _was_killed, _was_killed, _was_killed)),
    "get_init_pid": (
        lambda case, pid: case.runtime.get_init_pid("c1"),
        (_ABSENT, _is_init_pid, _is_init_pid, _is_init_pid, _is_init_pid)),
    "get_stdio_pipes": (
        lambda case, pid: case.runtime.get_stdio_pipes("c1", pid),
        (_ABSENT, _are_no_pipes, _are_no_pipes, _are_no_pipes, _are_no_pipes)),
    "get_stdio_pipes of another pid": (
        lambda case, pid: case.runtime.get_stdio_pipes("c1", _NO_PROCESS),
        (_ABSENT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN)),
}


class Statuses(ContractCase):
    """The table above."""

    @specifies(58, 59, 60)
    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("operation", TABLE)
    def test_operation_on_status(self, case: Case, operation: str, status: str) -> None:
        act, outcomes = TABLE[operation]
        pid = _NO_PROCESS
        if status == MISSING:
            case.ids.append("c1")
        else:
            pid = case.container_in(_Status(status))
        outcome = outcomes[STATUSES.index(status)]
        if not isinstance(outcome, type):
            assert outcome(case, pid, act(case, pid)), f"{operation} on a {status} container"
            return
        with pytest.raises(outcome) as raised:
            act(case, pid)
        assert getattr(raised.value, "id", None) == "c1"
        if isinstance(raised.value, StateError):
            assert raised.value.status == status
        if status != MISSING:  # nothing was changed
            assert case.runtime.get_container_state("c1").status == status
