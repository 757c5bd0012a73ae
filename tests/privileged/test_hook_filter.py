"""startContainer hooks, whose programs are mostly the image's, run under the container's filter of system calls."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from agent import Agent
from calls import compile_caller
from filter_lab import ADMIN, MKDIR, fields, rule, seccomp, strict
from hook_lab import shell
from lab import Lab, capabilities

from pyruntime.errors import HookFailedError
from pyruntime.testing.bundles import without_pid_namespace

pytestmark = pytest.mark.privileged

_FIELDS = re.compile(r"^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):.*", re.MULTILINE)


def hook_status(lab: Lab, **changes: Any) -> dict[str, int]:
    """What a startContainer hook has, which is what the program has."""
    pid = lab.sleeper(hooks={"startContainer": [shell("exec /bin/cat /proc/self/status > /dev/shm/hook")]}, **changes)
    of_hook, of_program = (fields("\n".join(match[0] for match in _FIELDS.finditer(Path(f"/proc/{pid}/{path}").read_text())))
                           for path in ("root/dev/shm/hook", "status"))
    assert of_hook == of_program and len(of_hook) == 6
    return of_hook


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("granted", [(), ("CAP_KILL",), ("CAP_KILL", "CAP_SYS_ADMIN")])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_it_is_under_the_filter_and_has_no_capability_by_that(lab: Lab, no_new_privileges: bool, granted: tuple[str, ...], user: int) -> None:
    process = {"noNewPrivileges": no_new_privileges, "user": {"uid": user, "gid": 0}, **capabilities(*granted)}
    status = hook_status(lab, process=process, **seccomp("ALLOW", rule(MKDIR)))
    assert (status["Seccomp"], status["NoNewPrivs"]) == (2, int(no_new_privileges))
    assert bool(status["CapPrm"] & ADMIN) == ("CAP_SYS_ADMIN" in granted)


def test_without_a_filter(lab: Lab) -> None:
    assert hook_status(lab)["Seccomp"] == 0


def failure(lab: Lab, hook: dict[str, Any], **changes: Any) -> HookFailedError:
    """Of a start, after which nothing is left."""
    lab.create(["/bin/sleep", "1000"], hooks={"startContainer": [hook]}, **changes)
    with pytest.raises(HookFailedError) as raised:
        lab.runtime.start_container("p1")
    assert not lab.runtime.container_exists("p1")
    return raised.value


def test_what_the_filter_refuses(lab: Lab) -> None:
    error = failure(lab, shell("mkdir /dev/shm/made", env=["PATH=/bin"]), **seccomp("ALLOW", rule(MKDIR)))
    assert (error.exit_code, error.json_path) == (1, "$.hooks.startContainer[0]") and "Operation not permitted" in str(error)
    killed = failure(lab, {"path": "/bin/mkdir", "args": ["mkdir", "/dev/shm/made"]}, **seccomp("ALLOW", rule(MKDIR, "KILL_PROCESS")))
    assert killed.signal == signal.SIGSYS and str(killed).endswith("was killed by signal 31 (SIGSYS: bad system call)")


def test_a_filter_that_forbids_to_execute(lab: Lab) -> None:
    error = failure(lab, shell("true"), **seccomp("ALLOW", rule(["execve"], "ERRNO", errnoRet=errno.EUCLEAN)))
    assert (error.errno, error.json_path) == (errno.EUCLEAN, "$.hooks.startContainer[0].path")


def test_a_profile_has_to_allow_what_the_hook_does_alone(lab: Lab, tmp_path: Path) -> None:
    """And nothing of what running it takes: no clone3, memfd_create, pipe2 or waitid."""
    shutil.copy(compile_caller(tmp_path), lab.rootfs / "bin" / "call")
    changes = strict(rule(["capset"], "ALLOW"))
    hook = {"path": "/bin/call", "args": ["call", "83"]}
    assert lab.run(["/bin/call", "83"], hooks={"startContainer": [hook]}, process={"noNewPrivileges": True}, **changes) == "-1\n"
    assert lab.run(["/bin/call", "83"], hooks={"startContainer": [hook]}, process={"noNewPrivileges": False}, **changes) == "-1\n"


def test_nobody_is_notified_of_a_hook(lab: Lab, tmp_path: Path) -> None:
    """What the agent would be asked for does not exist for it: the kernel has one listener, the program's."""
    with Agent(tmp_path / "agent", {}) as agent:
        changes = seccomp("ALLOW", rule(MKDIR, "NOTIFY"), listenerPath=str(agent.path))
        error = failure(lab, shell("mkdir /dev/shm/made", env=["PATH=/bin"]), **changes)
    assert error.exit_code == 1 and "Function not implemented" in str(error)


def test_a_filter_that_notifies_of_every_execution(lab: Lab, tmp_path: Path) -> None:
    with Agent(tmp_path / "agent", {}) as agent:
        error = failure(lab, shell("true"), **seccomp("ALLOW", rule(["execve"], "NOTIFY"), listenerPath=str(agent.path)))
    assert (error.errno, error.json_path) == (errno.ENOSYS, "$.hooks.startContainer[0].path")


def test_where_the_filter_is_there_before_the_start(lab: Lab) -> None:
    """In a pid namespace of others; the hook is under it once."""
    linux = {**seccomp("ALLOW", rule(MKDIR))["linux"], **without_pid_namespace()}
    process = {"noNewPrivileges": False, "user": {"uid": 1000, "gid": 0}, **capabilities()}
    assert hook_status(lab, process=process, linux=linux)["Seccomp"] == 2
