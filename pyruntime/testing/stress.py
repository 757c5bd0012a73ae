"""Many containers at once, and nothing left of them."""

from __future__ import annotations

import functools

import pytest

from pyruntime.interface import StdioOptions
from pyruntime.testing.case import Case, ContractCase, in_thread, read_all
from pyruntime.testing.snapshot import HostSnapshot

THREADS = 8
CONTAINERS = 25
STRESS_TIMEOUT_S = 600


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
        assert [line for line in left if line != f"new in files: {case.root}"] == []
        assert case.runtime.list_container_states() == []

    def _run_containers(self, case: Case, bundles: dict[tuple[int, int], str], thread: int) -> None:
        runtime = case.runtime
        stdio = StdioOptions(create_in=True, create_out=True, create_err=True)
        for i in range(CONTAINERS):
            id = f"c{thread}-{i}"
            case.ids.append(id)
            pid = runtime.create_container(id, bundles[thread, i], stdio)
            runtime.start_container(id)
            other = runtime.exec_process(id, {"args": ["/bin/sh", "-c", f"exit {i}"], "cwd": "/"}, StdioOptions())
            assert runtime.wait_on_process(id, other).exit_code == i
            pipes = runtime.get_stdio_pipes(id, pid)
            assert pipes.in_ is not None and pipes.out is not None and pipes.err is not None
            with pipes.in_, pipes.out, pipes.err:
                pipes.in_.write(id.encode())
                pipes.in_.close()
                assert read_all(pipes.out) == id.encode()
            assert runtime.wait_on_container(id).exit_code == 0
            assert id in [state.id for state in runtime.list_container_states()]
            runtime.delete_container(id)
