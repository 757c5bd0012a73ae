"""Many containers at once, and nothing left of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from pyruntime.interface import ProcessExitState, Runtime, Status, StdioOptions
from pyruntime.testing.case import Case, ContractCase, in_thread, is_readable, read_all, read_some
from pyruntime.testing.snapshot import HostSnapshot

THREADS = 8
CONTAINERS = 25
STRESS_TIMEOUT_S = 600
# of asking about a container that has failed: then nothing may be waited for long
NOTE_TIMEOUT_S = 5.0


class Stress(ContractCase):
    """Threads that run containers independently of each other."""

    @pytest.mark.slow
    @pytest.mark.timeout(STRESS_TIMEOUT_S)
    def test_many_at_once(self, case: Case) -> None:
        bundles = {(thread, i): case.bundle(f"c{thread}-{i}", ["/bin/cat"])
                   for thread in range(THREADS) for i in range(CONTAINERS)}
        before = HostSnapshot.take(case.directory)
        workers = [in_thread(functools.partial(self._run_containers, case, bundles, thread), STRESS_TIMEOUT_S)
                   for thread in range(THREADS)]
        errors = []
        for worker in workers:  # all of them, so that none is at work when the case is closed
            try:
                worker()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        left = HostSnapshot.take(case.directory).differences(before, case.cgroup_names)
        # what the root keeps besides containers has names that are no ids
        assert [line for line in left if line != f"new in files: {case.root}" and not line.startswith(f"new in files: {case.root}/.")] == []
        assert case.runtime.list_container_states() == []

    def _run_containers(self, case: Case, bundles: dict[tuple[int, int], str], thread: int) -> None:
        for i in range(CONTAINERS):
            id = f"c{thread}-{i}"
            case.ids.append(id)
            try:
                _run_container(case.runtime, id, bundles[thread, i], i)
            except BaseException as error:
                add_notes(error, case.runtime, id)
                raise


def _run_container(runtime: Runtime, id: str, bundle: str, code: int) -> None:
    pid = runtime.create_container(id, bundle, StdioOptions(create_in=True, create_out=True, create_err=True))
    runtime.start_container(id)
    other = runtime.exec_process(id, {"args": ["/bin/sh", "-c", f"exit {code}"], "cwd": "/"}, StdioOptions())
    assert runtime.wait_on_process(id, other).exit_code == code
    pipes = runtime.get_stdio_pipes(id, pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is not None
    with pipes.in_, pipes.out, pipes.err:
        pipes.in_.write(id.encode())
        pipes.in_.close()
        assert read_all(pipes.out) == id.encode()
    assert runtime.wait_on_container(id).exit_code == 0
    assert id in [state.id for state in runtime.list_container_states()]
    runtime.delete_container(id)


def add_notes(error: BaseException, runtime: Runtime, id: str) -> None:
    """Add to an exception what can be found out about a container, each in a line: what its runtime and the kernel say."""
    facts: dict[str, Callable[[], object]] = {
        "state": lambda: runtime.get_container_state(id),
        "init": lambda: Path(f"/proc/{runtime.get_init_pid(id)}/stat").read_text().rstrip(),
        "processes": lambda: runtime.get_all_container_processes(id),
        "standard error": lambda: _what_is_there(runtime.get_stdio_pipes(id, runtime.get_init_pid(id)).err),
        "exit": lambda: _exit_state(runtime, id),
    }
    for name, find in facts.items():
        try:
            fact = find()
        except Exception as unknown:
            fact = f"{type(unknown).__name__}: {unknown}"
        error.add_note(f"{id}: {name}: {fact}")


def _what_is_there(file: BinaryIO | None) -> bytes | None:
    return read_some(file, 65536) if file is not None and is_readable(file, 0) else None


def _exit_state(runtime: Runtime, id: str) -> ProcessExitState | None:
    """None while it runs."""
    if runtime.get_container_state(id).status != Status.STOPPED:
        return None
    return in_thread(lambda: runtime.wait_on_container(id), NOTE_TIMEOUT_S)()
