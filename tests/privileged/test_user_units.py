"""The systemd cgroup driver for a user, whose own manager makes the units: with a real one, which sees cgroup v2 alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delegation import CGROUPS, FORKS
from lab import is_unified
from users import COMMAND, GID, NAME, TIMEOUT_S, UID, User

pytestmark = pytest.mark.privileged
MIB = 1 << 20
MANAGER = f"/pyruntime-user/user@{UID}.service"
RUNTIME_DIRECTORY = f"/run/user/{UID}"
BECOME = f"exec setpriv --reuid={UID} --regid={GID} --clear-groups"
# in a mount namespace: the v2 hierarchy where systemd looks for it, signs of a system that it has booted, and a name for the user
PREPARE = f"""set -e
mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/systemd/system /run/systemd/cgroup /run/user && mkdir -m 700 {RUNTIME_DIRECTORY}
chown {UID}:{GID} {RUNTIME_DIRECTORY}
if [ {CGROUPS} != /sys/fs/cgroup ]; then
	mount --bind {CGROUPS} /run/systemd/cgroup && umount -l /sys/fs/cgroup && mount --bind /run/systemd/cgroup /sys/fs/cgroup
fi
for file in passwd group; do cp /etc/$file /run/systemd/$file; done
echo '{NAME}:*:{UID}:{GID}::/:/bin/sh' >>/run/systemd/passwd && echo '{NAME}:*:{GID}:' >>/run/systemd/group
for file in passwd group; do mount --bind /run/systemd/$file /etc/$file; done
echo 0 >/sys/fs/cgroup{MANAGER}/cgroup.procs
{BECOME} env -i PATH=/usr/bin:/bin HOME=/ XDG_RUNTIME_DIR={RUNTIME_DIRECTORY} NOTIFY_SOCKET=$1 /lib/systemd/systemd --user
"""


def make_delegated() -> None:
    """A cgroup with a place for whoever asks, the user's as systemd gives them away."""
    path = Path(f"{CGROUPS}{MANAGER}")
    (path / "caller").mkdir(parents=True)
    if is_unified():
        for directory in (CGROUPS, path.parent):
            (directory / "cgroup.subtree_control").write_text("+memory +pids")
    for owned in (path, path / "caller", *(at / name for at in (path, path / "caller") for name in ("cgroup.procs", "cgroup.subtree_control"))):
        os.chown(owned, UID, GID)


def remove_delegated() -> None:
    top = CGROUPS / Path(MANAGER).parts[1]
    for directory, _, _ in os.walk(top, topdown=False):
        os.rmdir(directory)


class Managed:
    """What a user runs beside its manager."""

    def __init__(self, user: User, manager: int) -> None:
        self.user = user
        self._environment = user.environment(XDG_RUNTIME_DIR=RUNTIME_DIRECTORY)
        self._command = (COMMAND, "--root", str(user.root), "--systemd-cgroup")
        self._enter = ("nsenter", f"--mount=/proc/{manager}/ns/mnt", "sh", "-c",
                       f"echo 0 >/sys/fs/cgroup{MANAGER}/caller/cgroup.procs; {BECOME} \"$@\"", "sh")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.user.run(*arguments, wrapper=self._enter, env=self._environment)

    def command(self, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.run(*before, *self._command, *arguments)

    def succeed(self, *arguments: str, before: tuple[str, ...] = ()) -> str:
        ended = self.command(*arguments, before=before)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def show(self, unit: str, *names: str) -> dict[str, str]:
        shown = self.run("systemctl", "--user", "show", unit, *(f"-p{name}" for name in names))
        assert shown.returncode == 0, shown
        return dict(line.split("=", 1) for line in shown.stdout.splitlines())

    def sleeper(self, before: tuple[str, ...] = (), **changes: Any) -> str:
        """A container c1 that runs; its v2 cgroup below the manager's."""
        bundle = self.user.bundle("exec sleep 1000 </dev/null >/dev/null 2>&1", **changes)
        # its init has the command's streams, and nobody is to wait for their end
        subprocess.run([*self._enter, *before, *self._command, "create", "--bundle", bundle, "c1"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self._environment, timeout=TIMEOUT_S, check=True)
        self.succeed("start", "c1", before=before)
        pid = json.loads(self.succeed("state", "c1", before=before))["pid"]
        own = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
        return own.removeprefix(f"0::{MANAGER}/")


@pytest.fixture
def managed(user: User) -> Iterator[Managed]:
    """With the user's manager, which has started what a login has it start, a bus among it."""
    make_delegated()
    ready = user.directory / "ready"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(ready))
        notified.settimeout(TIMEOUT_S)
        os.chown(ready, UID, GID)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PREPARE, "sh", str(ready)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as manager:
            try:
                while "READY=1" not in notified.recv(4096).decode().splitlines():
                    pass
                made = Managed(user, manager.pid)
                yield made
                made.command("delete", "--force", "c1")
            finally:
                manager.send_signal(signal.SIGTERM)
                manager.wait(TIMEOUT_S)
                remove_delegated()


@pytest.mark.conformance(34)
@pytest.mark.parametrize(("path", "unit", "where"), [
    ("user.slice:libpod:c1", "libpod-c1.scope", "user.slice"), (None, "pyruntime-c1.scope", "user.slice"),
    (":cri:c1", "cri-c1.scope", "user.slice"), ("app-a.slice:x:c1", "x-c1.scope", "app.slice/app-a.slice")])
def test_a_users_unit(managed: Managed, path: str | None, unit: str, where: str) -> None:
    assert managed.sleeper(linux={"cgroupsPath": path}) == f"{where}/{unit}"
    assert managed.show(unit, "ActiveState", "Slice", "Delegate", "Description") == {
        "ActiveState": "active", "Slice": where.rpartition("/")[2], "Delegate": "yes", "Description": "pyruntime container c1"}
    assert managed.succeed("exec", "c1", "sh", "-c", "grep 0:: /proc/self/cgroup") == "0::/\n"
    managed.succeed("pause", "c1")
    assert json.loads(managed.succeed("state", "c1"))["status"] == "paused"
    managed.succeed("resume", "c1")
    managed.succeed("delete", "--force", "c1")
    assert not Path(f"{CGROUPS}{MANAGER}/{where}/{unit}").exists()
    assert managed.show(unit, "LoadState") == {"LoadState": "not-found"}


@pytest.mark.conformance(34, 38, 44)
def test_limits_of_a_users_unit(managed: Managed) -> None:
    """They bind where the controllers are of v2; elsewhere none can be had, and that is told."""
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}
    if not is_unified():
        refused = managed.command("create", "--bundle", managed.user.bundle(["/bin/true"], linux={"resources": resources}), "c1")
        assert refused.returncode == 1 and "$.linux.resources.memory.limit" in refused.stderr
        return
    cgroup = Path(f"{CGROUPS}{MANAGER}") / managed.sleeper(linux={"resources": resources})
    assert managed.show("pyruntime-c1.scope", "MemoryMax", "TasksMax") == {"MemoryMax": str(64 * MIB), "TasksMax": "20"}
    assert [(cgroup / name).read_text() for name in ("memory.max", "pids.max")] == [f"{64 * MIB}\n", "20\n"]
    refused = managed.command("exec", "c1", "sh", "-c", FORKS)
    assert refused.returncode != 0 and "fork" in refused.stderr
    managed.succeed("update", "--pids-limit", "30", "c1")
    assert (cgroup / "pids.max").read_text() == "30\n" and managed.show("pyruntime-c1.scope", "TasksMax") == {"TasksMax": "30"}


def test_root_of_a_user_namespace(managed: Managed) -> None:
    """As podman calls a runtime for a user: the bus knows it by the user's uid."""
    before = ("unshare", "--user", "--map-root-user", "--mount")
    mapping = [{"containerID": 0, "hostID": 0, "size": 1}]
    linux = {"cgroupsPath": "user.slice:libpod:c1", "uidMappings": mapping, "gidMappings": mapping}
    assert managed.sleeper(before, linux=linux) == "user.slice/libpod-c1.scope"
    managed.succeed("delete", "--force", "c1", before=before)
    assert managed.show("libpod-c1.scope", "LoadState") == {"LoadState": "not-found"}


def test_without_a_bus(managed: Managed) -> None:
    """The error says which one is not there, and nothing is left."""
    bundle = managed.user.bundle(["/bin/true"])
    for variable, said in (("XDG_RUNTIME_DIR=/none", "'/none/bus': ENOENT"), ("DBUS_SESSION_BUS_ADDRESS=tcp:host=x", "is no address"),
                           ("DBUS_SESSION_BUS_ADDRESS=unix:path=/other", "'/other': ENOENT")):
        ended = managed.command("create", "--bundle", bundle, "c1", before=("env", variable))
        assert ended.returncode == 1 and "connect to the user bus" in ended.stderr and said in ended.stderr, ended
    assert not (managed.user.root / "c1").exists()
