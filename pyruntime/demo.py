"""The main job on screen: a bundle made on the spot, and a container's life from create to delete, with times."""

from __future__ import annotations

import pathlib
import signal
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from pyruntime import NativeRuntime, StdioOptions
from pyruntime.cgroups import remove_empty_parent
from pyruntime.testing import make_bundle

T = TypeVar("T")


def timed(what: str, run: Callable[[], T]) -> T:
    """Run it, and print how long it took."""
    begin = time.perf_counter()
    result = run()
    print(f"  {what:40} {(time.perf_counter() - begin) * 1000:8.2f} ms", end="")
    print(f"   {result}" if result is not None else "")
    return result


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pyruntime-demo-") as directory:
        bundle = make_bundle(pathlib.Path(directory) / "bundle", ["/bin/sh", "-c", "echo hello from the container; exec sleep 1000"])
        runtime = NativeRuntime(root=f"{directory}/state")
        print(f"bundle {bundle}, made from busybox")
        try:
            live(runtime, str(bundle))
        finally:
            for state in runtime.list_container_states():
                runtime.delete_container(state.id, force=True)
            remove_empty_parent()


def live(runtime: NativeRuntime, bundle: str) -> None:
    out = StdioOptions(create_out=True)
    pid = timed("create", lambda: runtime.create_container("demo", bundle, out))
    pipes = runtime.get_stdio_pipes("demo", pid)
    timed("state", lambda: runtime.get_container_state("demo").status.value)
    timed("start", lambda: runtime.start_container("demo"))
    assert pipes.out is not None
    line = pipes.out
    timed("first line of its output", lambda: line.read(100).strip().decode())
    exec_pid = timed("exec id", lambda: runtime.exec_process("demo", {"args": ["/bin/id"], "cwd": "/"}, out))
    exec_out = runtime.get_stdio_pipes("demo", exec_pid).out
    assert exec_out is not None
    timed("wait for it", lambda: runtime.wait_on_process("demo", exec_pid))
    print(f"  {exec_out.read(1000).decode().strip()}")
    runtime.delete_process("demo", exec_pid)
    timed("processes", lambda: [process.command for process in runtime.get_running_container_processes("demo")])
    timed("pause", lambda: runtime.pause_container("demo"))
    timed("state", lambda: runtime.get_container_state("demo").status.value)
    timed("resume", lambda: runtime.resume_container("demo"))
    timed("kill", lambda: runtime.kill_container("demo", signal.SIGKILL))
    timed("wait", lambda: runtime.wait_on_container("demo"))
    timed("delete", lambda: runtime.delete_container("demo"))


if __name__ == "__main__":
    main()
