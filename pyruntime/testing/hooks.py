"""The hooks of config.json (config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyruntime.errors import ContainerRuntimeError
from pyruntime.testing.case import SLEEP, Case, ContractCase, specifies

AT_CREATE = ("prestart", "createRuntime", "createContainer")


class Hooks(ContractCase):
    """Programs of the host that write into a file of the host."""

    def hook(self, case: Case, word: str, script: str = "", **members: Any) -> dict[str, Any]:
        """One that writes a word, and what the script writes, into one line."""
        diary = case.directory / "diary"
        return {"path": "/bin/sh", "args": ["sh", "-c", f"(echo {word} $({script or ':'})) >> {diary}"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **members}

    def lines(self, case: Case) -> list[str]:
        """What hooks have written."""
        diary = Path(case.directory, "diary")
        return diary.read_text().splitlines() if diary.exists() else []

    @specifies(24, 61)
    def test_order_of_hooks(self, case: Case) -> None:
        hooks = {kind: [self.hook(case, f"{kind}{i}") for i in range(2)] for kind in ("poststop", "poststart", *reversed(AT_CREATE))}
        case.create("c1", SLEEP, hooks=hooks)
        created = [f"{kind}{i}" for kind in AT_CREATE for i in range(2)]
        started = ["poststart0", "poststart1"]
        assert self.lines(case) == created + (started if self.differs("poststart-at-create") else [])
        case.runtime.start_container("c1")
        assert self.lines(case) == created + started
        case.stop("c1")
        assert self.lines(case) == created + started
        case.runtime.delete_container("c1")
        assert self.lines(case) == [*created, *started, "poststop0", "poststop1"]

    @specifies(24)
    def test_hooks_are_told_the_state(self, case: Case) -> None:
        kinds = (*AT_CREATE, "poststart", "poststop")
        pid = case.create("c1", SLEEP, hooks={kind: [self.hook(case, "", "cat")] for kind in kinds}, annotations={"org.example": "value"})
        case.runtime.start_container("c1")
        case.stop("c1")
        case.runtime.delete_container("c1")
        states = [json.loads(line) for line in self.lines(case)]
        assert {(state["id"], os.path.realpath(state["bundle"])) for state in states} == {
            ("c1", os.path.realpath(case.directory / "bundles" / "bundle-c1"))}
        assert all(state["annotations"]["org.example"] == "value" for state in states)
        assert [state["pid"] for state in states[:2]] == [pid, pid]
        assert states[3]["pid"] == pid and states[4]["status"] == "stopped"
        if not self.differs("other-states-for-hooks"):
            assert [state["status"] for state in states] == ["creating", "creating", "creating", "running", "stopped"]
            assert states[2]["pid"] == 1  # as seen by the container

    @specifies(24)
    def test_namespaces_of_hooks(self, case: Case) -> None:
        kinds = (*AT_CREATE, "poststart", "poststop")
        look = "readlink /proc/self/ns/mnt /proc/self/ns/net"
        pid = case.run("c1", SLEEP, hooks={kind: [self.hook(case, "", look)] for kind in kinds})
        inside, ours = ([os.readlink(f"/proc/{who}/ns/{name}") for name in ("mnt", "net")] for who in (pid, "self"))
        case.stop("c1")
        case.runtime.delete_container("c1")
        assert [line.split() for line in self.lines(case)] == [ours, ours, inside, ours, ours]

    @specifies(24)
    def test_mounts_are_there_when_hooks_run(self, case: Case) -> None:
        """Below the path of the root file system, in the container's mount namespace."""
        case.create("c1", SLEEP, hooks={"createContainer": [self.hook(case, "", f"ls -d {case.rootfs}/proc/1")]})
        assert self.lines(case) == [f"{case.rootfs}/proc/1"]

    @specifies(24)
    def test_start_container_hook_is_in_the_container(self, case: Case) -> None:
        inside = {"path": "/bin/sh", "args": ["sh", "-c", "echo $(hostname) $A > /dev/shm/hook"], "env": ["PATH=/bin", "A=1"]}
        case.create("c1", ["/bin/sh", "-c", "read line < /dev/shm/hook; test \"$line\" = 'contract 1'"], hooks={"startContainer": [inside]})
        case.runtime.start_container("c1")
        assert case.runtime.wait_on_container("c1").exit_code == 0

    @specifies(61)
    @pytest.mark.parametrize("kind", AT_CREATE)
    def test_creation_fails_with_a_hook(self, case: Case, kind: str) -> None:
        hooks = {kind: [self.hook(case, kind), {"path": "/bin/false"}, self.hook(case, "never")], "poststop": [self.hook(case, "poststop")]}
        with pytest.raises(ContainerRuntimeError):
            case.create("c1", SLEEP, hooks=hooks)
        assert not case.runtime.container_exists("c1")
        assert self.lines(case) == [kind] + ([] if self.differs("no-poststop-after-failed-create") else ["poststop"])

    @specifies(24)
    @pytest.mark.parametrize("kind", AT_CREATE)
    def test_a_hook_has_its_time(self, case: Case, kind: str) -> None:
        with pytest.raises(ContainerRuntimeError):
            case.create("c1", SLEEP, hooks={kind: [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]})
        assert not case.runtime.container_exists("c1")
