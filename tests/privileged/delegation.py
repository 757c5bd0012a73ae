"""A v2 cgroup that is given to a user, and what the user runs there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from users import COMMAND, GID, TIMEOUT_S, UID, User

from pyruntime.host import read_host

CGROUPS = Path(next(hierarchy.mount_point for hierarchy in read_host().hierarchies if hierarchy.is_v2))
# of more processes than a limit allows; without its streams, which would keep whoever reads them waiting
FORKS = "i=0; while [ $i -lt 30 ]; do sleep 1000 </dev/null >/dev/null 2>&1 & i=$((i + 1)); done"


class Delegated:
    """A cgroup of the user's; what the user runs is below it in `caller`."""

    def __init__(self, user: User, path: Path) -> None:
        self.user = user
        self.path = path

    def containers_file(self, name: str, id: str = "c1") -> str:
        return (self.path / "pyruntime" / id / name).read_text().strip()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = f"echo $$ >{self.path}/caller/cgroup.procs; exec setpriv --reuid={UID} --regid={GID} --clear-groups \"$@\""
        return subprocess.run(["sh", "-c", script, "sh", COMMAND, *arguments], env=self.user.environment(), cwd=self.user.directory,
                              capture_output=True, text=True, check=False, timeout=5 * TIMEOUT_S, stdin=subprocess.DEVNULL)

    def succeed(self, *arguments: str) -> str:
        ended = self.command(*arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def run_detached(self, script: str, **changes: Any) -> None:
        """A container c1; the script has no streams, which would keep this waiting."""
        bundle = self.user.bundle(f"exec >/dev/null 2>&1; {script}", **changes)
        ended = self.command("run", "--detach", "-b", bundle, "c1")
        assert ended.returncode == 0, ended

    def delete_all(self) -> None:
        root = self.user.root
        for entry in root.iterdir() if root.exists() else ():
            if entry.name != ".filters":
                self.succeed("delete", "--force", entry.name)
        left = [str(path) for path in self.path.glob("pyruntime/*/cgroup.procs")]
        assert left == [], left


@pytest.fixture
def delegated(user: User) -> Iterator[Delegated]:
    """By chown(1), as cgroups(7) says, with the controllers that there are."""
    path = CGROUPS / "pyruntime-test-user"
    available = (CGROUPS / "cgroup.controllers").read_text().split()
    (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in ("memory", "pids", "cpu") if name in available))
    path.mkdir()
    (path / "caller").mkdir()
    for given in (path, *(path / name for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")), path / "caller",
                  path / "caller" / "cgroup.procs"):
        os.chown(given, UID, GID)
    made = Delegated(user, path)
    yield made
    made.delete_all()
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)
