"""What the features document claims and only a container can show; the rest is in tests/unit/test_features_document.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from agent import Agent
from filters import number
from lab import MAPS, Lab, namespaces
from probing import Probe

import pyruntime
from pyruntime.errors import SetupError, UnsupportedFieldError
from pyruntime.spec.seccomp import SeccompFlag

pytestmark = [pytest.mark.conformance(63), pytest.mark.privileged]
LINUX = pyruntime.features()["linux"]
# what others' runtimes act on, and this one with the systemd cgroup driver, which tests/vm has (of these, properties of a unit)
ANNOTATIONS = {"run.oci.handler": "wasm", "run.oci.systemd.subgroup": "x", "org.systemd.property.CPUWeight": "uint64 7",
               "org.criu.config": "/etc/criu", "run.oci.seccomp_fail_unknown_syscall": "1", "run.oci.pidfd_receiver": "/s"}


@pytest.mark.conformance(27)
def test_namespaces(reachable: Lab, probe: Probe) -> None:
    """Each is new."""
    host = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in os.listdir("/proc/self/ns")}
    inside = probe.run("namespaces", linux={"namespaces": namespaces(*LINUX["namespaces"]), **MAPS}).namespaces
    assert len(LINUX["namespaces"]) == 8
    assert [name for name, inode in inside.items() if host[name] == inode] == []


@pytest.mark.parametrize("flag", [str(flag) for flag in SeccompFlag])
def test_seccomp_flags(probe: Probe, tmp_path: Path, flag: str) -> None:
    """Those that this kernel has are taken, the others refused."""
    assert set(LINUX["seccomp"]["knownFlags"]) == {str(known) for known in SeccompFlag} >= set(LINUX["seccomp"]["supportedFlags"])
    with Agent(tmp_path / "agent", {number("keyctl"): -errno.EPERM}) as agent:
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "listenerPath": str(agent.path),
                   "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_NOTIFY"}]}
        if flag in LINUX["seccomp"]["supportedFlags"]:
            assert probe.run("syscall:keyctl", linux={"seccomp": profile}).call("keyctl") == "EPERM"
        else:
            with pytest.raises((UnsupportedFieldError, SetupError)):
                probe.run("syscall:keyctl", linux={"seccomp": profile})
        probe.lab.delete_all()


@pytest.mark.conformance(64)
def test_annotations_change_nothing_in_a_container(probe: Probe) -> None:
    questions = ("ids", "caps", "rlimits", "namespaces", "mounts", "cgroups", "seccomp", "environment", "oom_score_adj")
    plain, annotated = (probe.run(*questions, annotations=annotations) for annotations in ({}, ANNOTATIONS))
    same = [name for name in questions if name not in ("namespaces", "mounts")]
    assert [plain.raw[name] for name in same] == [annotated.raw[name] for name in same]
    assert [(mount.target, mount.options, mount.tags) for mount in plain.mounts] == [
        (mount.target, mount.options, mount.tags) for mount in annotated.mounts]
