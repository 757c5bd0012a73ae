"""The records, as they stand in files."""

from __future__ import annotations

import datetime

import msgspec

from pyruntime.cgroups.paths import Cgroup
from pyruntime.spec import Capabilities


class JoinedMountNamespace(msgspec.Struct, frozen=True):
    """A mount namespace that the container did not make, with its root file system mounted there; told by its inode."""

    path: str
    device: int
    inode: int


class ContainerRecord(msgspec.Struct, frozen=True):
    """What is known of a container once its init is ready.

    start_time   of init, in clock ticks since boot (proc(5), field 22): tells it from a later process of that pid
    namespaces   CLONE_NEW... bits of those that are not the host's
    limits_pids  whether config.json limits the number of processes
    """

    id: str
    oci_version: str
    bundle_path: str
    rootfs_path: str
    pid: int
    start_time: int
    created: datetime.datetime
    namespaces: int
    shares_pid_namespace: bool
    cgroups: tuple[Cgroup, ...]
    annotations: dict[str, str] = {}
    capabilities: Capabilities | None = None
    joined_mount_namespace: JoinedMountNamespace | None = None
    limits_pids: bool = True


class ProcessRecord(msgspec.Struct, frozen=True):
    """An exec process, or init, that has been waited for if `exit_code` is there."""

    pid: int
    start_time: int
    exit_code: int | None = None
    signal: int | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    peak_memory_bytes: int | None = None
