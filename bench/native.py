"""NativeRuntime, called from this process, as a contender."""

from __future__ import annotations

import signal
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from bench import bundle
from bench.samples import ContenderError, Sample

if TYPE_CHECKING:
    from pyruntime import NativeRuntime


class Native:
    """Imports pyruntime when it is made, so that the rest of the benchmark works without it."""

    name = "native"

    def __init__(self, root: Path, bundle_path: Path, sleep_bundle: Path) -> None:
        try:
            from pyruntime import NativeRuntime, StdioOptions
        except ImportError as error:
            raise ContenderError(f"cannot be imported: {error}") from error
        self.runtime: NativeRuntime = NativeRuntime(root=str(root))
        self._null = StdioOptions()
        self._bundle = str(bundle_path)
        self._sleep_bundle = str(sleep_bundle)
        self._process = bundle.process(["/bin/true"])
        self._held: str | None = None
        self._count = 0

    def _next_id(self) -> str:
        self._count += 1
        return f"bench-native-{self._count}"

    def cycle(self) -> Sample:
        return self.cycle_of(self._next_id(), self._bundle)

    def cycle_of(self, id: str, bundle_path: str) -> Sample:
        """One container's life. Raises ContenderError if the program did not succeed."""
        runtime = self.runtime
        begin = perf_counter_ns()
        runtime.create_container(id, bundle_path, self._null)
        created = perf_counter_ns()
        runtime.start_container(id)
        started = perf_counter_ns()
        exit_state = runtime.wait_on_container(id)
        ended = perf_counter_ns()
        runtime.delete_container(id)
        deleted = perf_counter_ns()
        if exit_state.exit_code != 0:
            raise ContenderError(f"/bin/true exited with {exit_state.exit_code}")
        return {
            "create": created - begin,
            "start": started - created,
            "wait": ended - started,
            "delete": deleted - ended,
            "cycle": deleted - begin,
        }

    def run_sleep(self) -> int:
        pid = self._create(self._sleep_bundle)
        self.runtime.start_container(self.held)
        return pid

    def create(self) -> int:
        return self._create(self._bundle)

    def _create(self, bundle_path: str) -> int:
        id = self._next_id()
        pid = self.runtime.create_container(id, bundle_path, self._null)
        self._held = id
        return pid

    @property
    def held(self) -> str:
        """The container of `create` or `run_sleep`."""
        assert self._held is not None
        return self._held

    def execute(self) -> Sample:
        runtime, id = self.runtime, self.held
        begin = perf_counter_ns()
        pid = runtime.exec_process(id, self._process, self._null)
        executed = perf_counter_ns()
        exit_state = runtime.wait_on_process(id, pid)
        ended = perf_counter_ns()
        runtime.delete_process(id, pid)
        deleted = perf_counter_ns()
        if exit_state.exit_code != 0:
            raise ContenderError(f"/bin/true exited with {exit_state.exit_code}")
        return {"exec": executed - begin, "wait": ended - executed, "delete": deleted - ended, "cycle": deleted - begin}

    def remove(self) -> None:
        if self._held is not None:
            self.runtime.kill_container(self._held, signal.SIGKILL)
            self.runtime.wait_on_container(self._held)
            self.runtime.delete_container(self._held)
            self._held = None

    def close(self) -> None:
        self.remove()
