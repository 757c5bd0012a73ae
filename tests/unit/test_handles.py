"""Containers and processes as objects, on the mock."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pyruntime import Container, MockRuntime, StdioOptions
from pyruntime.errors import ContainerNotFoundError, SetupError, StillRunningError
from pyruntime.interface import Status
from pyruntime.testing import make_bundle


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """A created one."""
    runtime = MockRuntime()
    bundle = make_bundle(tmp_path / "bundle", ["/bin/cat"])
    runtime.create_container("c1", str(bundle), StdioOptions(create_in=True, create_out=True))
    return runtime.container("c1")


def test_life_of_a_container(container: Container) -> None:
    assert container.exists
    assert [container.state.status] == [Status.CREATED]
    assert container.pid == container.state.pid == container.init.pid
    container.start()
    container.pause()
    assert [container.state.status] == [Status.PAUSED]
    container.resume()
    pipes = container.stdio
    assert pipes.in_ is not None and pipes.out is not None
    pipes.in_.write(b"through")
    assert pipes.out.read(100) == b"through"
    container.kill(signal.SIGKILL)
    assert container.wait().exit_code == container.init.wait().exit_code == 137
    container.delete()
    assert not container.exists


def test_process(container: Container) -> None:
    container.start()
    process = container.exec({"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions(create_err=True))
    assert process.stdio.err is not None
    assert [found.pid for found in container.processes()] == [container.pid, process.pid]
    with pytest.raises(StillRunningError):
        process.delete()
    process.kill(signal.SIGTERM)
    assert process.stdio.err.read() == b""
    assert [found.pid for found in container.processes()] == [container.pid]
    assert [found.pid for found in container.processes(zombies=True)] == [container.pid, process.pid]
    assert process.wait().signal == signal.SIGTERM
    process.delete()
    with pytest.raises(SetupError, match="no terminal"):
        container.init.resize_console(80, 24)
    container.delete(force=True)


def test_context_deletes(container: Container) -> None:
    with container:
        container.start()
    assert not container.exists
    with container:  # one that is gone is fine
        pass
    with pytest.raises(ContainerNotFoundError):
        container.runtime.delete_container("c1")


def test_handle_of_nothing() -> None:
    with pytest.raises(ContainerNotFoundError):
        MockRuntime().container("c1")
