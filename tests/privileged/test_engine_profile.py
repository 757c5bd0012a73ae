"""The filter that podman gives every container, of Debian's package golang-github-containers-common: as runc has it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, capabilities
from probing import HEADERS, Answers, Probe

from pyruntime import StdioOptions
from pyruntime.runtimes.filters import DIRECTORY as FILTERS

PROFILE = Path("/usr/share/containers/seccomp.json")
ARCHITECTURE = "amd64"
# with arguments of -1 they do not return, or take what the probe answers with
UNASKED = {"pause", "exit", "exit_group", "vfork", "rt_sigreturn", "clone", "fork", "close_range", "seccomp", "ptrace"}


def engine_filter(*granted: str) -> dict[str, Any]:
    """`linux.seccomp` that an engine makes of the profile for a container with these capabilities."""
    profile = json.loads(PROFILE.read_text())

    def applies(rule: dict[str, Any]) -> bool:
        included, excluded = rule["includes"], rule["excludes"]
        return (set(included.get("caps", ())) <= set(granted) and not set(excluded.get("caps", ())) & set(granted)
                and ARCHITECTURE in included.get("arches", [ARCHITECTURE]) and ARCHITECTURE not in excluded.get("arches", ()))

    rules = [{name: rule[name] for name in ("names", "action", "args", "errnoRet") if rule.get(name) is not None}
             for rule in profile["syscalls"] if applies(rule)]
    (native,) = (entry for entry in profile["archMap"] if entry["architecture"] == "SCMP_ARCH_X86_64")
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": [native["architecture"], *native["subArchitectures"]], "syscalls": rules}


def calls() -> list[str]:
    """All of this machine's, but for those that cannot be asked about."""
    source = "".join(f"#include <{header}>\n" for header in HEADERS)
    macros = subprocess.run(["gcc", "-E", "-dM", "-"], input=source, capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^#define __NR_(\w+) \d+$", macros, re.MULTILINE)
    assert len(names) > 300
    return sorted(set(names) - UNASKED)


def ask_runc(lab: Lab, questions: list[str], **changes: Any) -> Answers:
    """The control's answers, in the same root file system."""
    changes["linux"] = {"cgroupsPath": "/pyruntime/p2", **changes["linux"]}
    bundle = lab.bundle(["/bin/probe", *questions], **changes)
    command = ["runc", "--root", str(lab.directory / "runc"), "run", "--bundle", bundle, "p2"]
    return Answers(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout)


def outcome(answers: Answers, name: str) -> str:
    """The error, the signal, or that there was a result: pids and addresses are others each time."""
    found = answers.call(name)
    return found if isinstance(found, str) else "a result"


@pytest.mark.conformance(50)
@pytest.mark.parametrize("granted", [(), ("CAP_SYS_ADMIN", "CAP_AUDIT_WRITE", "CAP_SYS_PTRACE")], ids=["no capability", "some"])
def test_every_call_goes_as_with_runc(probe: Probe, granted: tuple[str, ...]) -> None:
    names = calls()
    questions = [f"syscall:{name}" for name in names]
    changes = {"linux": {"seccomp": engine_filter(*granted)}, "process": capabilities(*granted)}
    ours = probe.run(*questions, **changes)
    control = ask_runc(probe.lab, questions, **changes)
    assert {name: outcome(ours, name) for name in names} == {name: outcome(control, name) for name in names}
    # what the profile is there for
    assert ours.call("kexec_load") == "EPERM"
    assert ours.call("getcwd") == "EFAULT"


def test_the_second_container_compiles_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in this process nor, by what is on disk, in another."""
    changes = {"linux": {"seccomp": engine_filter()}}
    lab.sleeper(**changes)
    (made,) = (lab.root / FILTERS).iterdir()
    before = made.stat()
    monkeypatch.setattr("pyruntime.runtimes.filters.compile_filter", _refuse)
    assert lab.run(["/bin/grep", "Seccomp:", "/proc/self/status"], "p2", **changes) == "Seccomp:\t2\n"
    other = type(lab.runtime)(str(lab.root))
    other.create_container("p3", lab.bundle("true", **changes), StdioOptions())
    other.delete_container("p3", force=True)
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def _refuse(*_: object) -> None:
    raise AssertionError("a filter was compiled")
