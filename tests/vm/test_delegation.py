"""What systemd delegates to a user, as its manager of that user has it: containers are below it, and limits bind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from delegation import CGROUPS, FORKS, Delegated
from users import GID, UID, User

NAME = "pyruntime-test-user.service"
MIB = 1 << 20
LIMITS = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}


@pytest.fixture
def named(user: User) -> Iterator[User]:
    """systemd runs nothing for an id without a name. The files are the virtual machine's, and in memory."""
    files = {Path("/etc/passwd"): f"pyruntime-test:x:{UID}:{GID}::/:/bin/sh\n", Path("/etc/group"): f"pyruntime-test:x:{GID}:\n"}
    before = {path: path.read_text() for path in files}
    for path, line in files.items():
        path.write_text(before[path] + line)
    yield user
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture
def unit(named: User) -> Iterator[Delegated]:
    """A service of the user's with Delegate=yes, which stays as long as its containers may."""
    path = CGROUPS / "system.slice" / NAME
    script = f"mkdir {path}/caller && echo 0 >{path}/caller/cgroup.procs && echo ready && exec cat"
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={NAME}", f"--uid={UID}", f"--gid={GID}", "-pDelegate=yes",
               "-pDefaultDependencies=no", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdin is not None and holder.stdout.readline() == "ready\n"
        made = Delegated(named, path)
        yield made
        made.delete_all()
        holder.stdin.close()
        assert holder.wait() == 0
    assert not path.exists()


@pytest.mark.conformance(34, 38, 44)
def test_limits_bind_below_a_unit(unit: Delegated) -> None:
    unit.run_detached("sleep 100000", linux={"resources": LIMITS})
    state = json.loads(unit.succeed("state", "c1"))
    own = Path(f"/proc/{state['pid']}/cgroup").read_text().strip()
    assert own == f"0::/system.slice/{NAME}/pyruntime/c1"
    assert [unit.containers_file(name) for name in ("memory.max", "pids.max")] == [str(64 * MIB), "20"]
    refused = unit.command("exec", "c1", "sh", "-c", FORKS)
    assert refused.returncode != 0 and "fork" in refused.stderr
    unit.succeed("pause", "c1")
    assert json.loads(unit.succeed("state", "c1"))["status"] == "paused"
