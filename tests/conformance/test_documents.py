"""What is written for others is as the specification's schema wants it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from conformance.schemas import errors
from pyruntime import StdioOptions
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged
ANNOTATIONS = {"org.example.key": "value", "org.example.empty": ""}


def state_of(lab: Lab, id: str = "p1") -> dict[str, Any]:
    """What the command line prints."""
    command = [sys.executable, "-m", "pyruntime", "--root", str(lab.root), "state", id]
    printed: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return printed


def end_input(lab: Lab, pid: int) -> None:
    """Which ends the container."""
    pipe = lab.runtime.get_stdio_pipes("p1", pid).in_
    assert pipe is not None
    pipe.close()
    lab.runtime.wait_on_container("p1")


@pytest.mark.conformance(25, 56)
def test_state(lab: Lab) -> None:
    """With every status that the specification has for it."""
    bundle = lab.bundle(["/bin/cat"], annotations=ANNOTATIONS)
    pid = lab.runtime.create_container("p1", bundle, StdioOptions(create_in=True))
    seen = [state_of(lab)]
    lab.runtime.start_container("p1")
    seen.append(state_of(lab))
    end_input(lab, pid)
    seen.append(state_of(lab))
    assert [errors("state", state) for state in seen] == [[], [], []]
    assert [state["status"] for state in seen] == ["created", "running", "stopped"]
    assert [state.get("pid", 0) for state in seen] == [pid, pid, 0]
    for state in seen:
        assert (state["id"], state["bundle"], state["annotations"]) == ("p1", bundle, ANNOTATIONS)
        assert state["ociVersion"] == default_config()["ociVersion"]


@pytest.mark.conformance(24, 56)
def test_state_that_hooks_are_told(lab: Lab) -> None:
    """Each kind its own."""
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    shared = lab.directory / "told"
    shared.mkdir()
    # where the container has it, for the one kind that is executed there
    places = dict.fromkeys(kinds, shared) | {"startContainer": Path("/dev/shm")}
    hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >{place}/{kind}"], "env": ["PATH=/bin"]}]
             for kind, place in places.items()}
    mount = {"destination": "/dev/shm", "type": "bind", "source": str(shared), "options": ["bind"]}
    mounts = [mount if found["destination"] == "/dev/shm" else found for found in default_config()["mounts"]]
    pid = lab.create(["/bin/cat"], stdio=StdioOptions(create_in=True), hooks=hooks, mounts=mounts, annotations=ANNOTATIONS)
    lab.runtime.start_container("p1")
    end_input(lab, pid)
    lab.runtime.delete_container("p1")
    told = {kind: json.loads((shared / kind).read_text()) for kind in kinds}
    assert {kind: errors("state", state) for kind, state in told.items()} == {kind: [] for kind in kinds}
    assert {kind: state["status"] for kind, state in told.items()} == {
        "prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created",
        "poststart": "running", "poststop": "stopped"}
    assert all(state["annotations"] == ANNOTATIONS for state in told.values())


def test_configuration(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pyruntime", "spec", "--bundle", str(tmp_path)], check=True)
    assert errors("config", json.loads((tmp_path / "config.json").read_text())) == []
