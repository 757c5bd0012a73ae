"""The records, as they stand in files.

Without `from __future__ import annotations`, as in spec/fields.py: msgspec would have to evaluate each of them.
"""

import datetime
from typing import Self

import msgspec

from pyruntime.cgroups.paths import Cgroup
from pyruntime.spec import Capabilities, CPUAffinity, Hooks, IOPriority, MemoryPolicy, Personality, Rlimit, Scheduler


class JoinedMountNamespace(msgspec.Struct, frozen=True):
    """A mount namespace that the container did not make, with its root file system mounted there; told by its inode."""

    path: str
    device: int
    inode: int


class FilterRecord(msgspec.Struct, frozen=True):
    """The filter of system calls, which further processes get as well, whoever makes them.

    listener_path, listener_metadata   of who is notified, and what it is told besides
    """

    program: bytes
    flags: int
    listener_path: str | None = None
    listener_metadata: str | None = None
    notifies_of_sendmsg: bool = False


class Inherited(msgspec.Struct, frozen=True, omit_defaults=True):
    """What further processes have of the container: those of `process` unless they say otherwise, those of `linux` in any case."""

    rlimits: tuple[Rlimit, ...] = ()
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = None
    selinux_label: str | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None


class ResctrlRecord(msgspec.Struct, frozen=True):
    """The resctrl groups of a container: those that its processes join, and those that are removed with it, in that order."""

    paths: tuple[str, ...]
    removed: tuple[str, ...] = ()


class ContainerRecord(msgspec.Struct, frozen=True):
    """What is known of a container once its init is ready.

    start_time   of init, in clock ticks since boot (proc(5), field 22): tells it from a later process of that pid
    namespaces   CLONE_NEW... bits of those that are not the host's
    limits_pids, limits_memory   whether the number of processes, and memory, is limited
    unit         name of the systemd unit that the cgroups belong to
    hooks        those that run after the creation, unset if there are none
    inherited    what further processes have of it besides, unset if that is nothing
    resctrl      its groups of that file system, unset if it has none
    keeps_keyring   the processes are in the session keyring of who made them
    denies_setgroups   the container's user namespace lets no groups be set
    first_ids    uid and gid that its user namespace has, 0 unless that has none
    front        of `front_of`; the last one, by which it is found
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
    limits_memory: bool = False
    unit: str | None = None
    apparmor_profile: str | None = None
    keeps_keyring: bool = False
    filter: FilterRecord | None = None
    hooks: Hooks | msgspec.UnsetType = msgspec.UNSET
    inherited: Inherited | msgspec.UnsetType = msgspec.UNSET
    resctrl: ResctrlRecord | msgspec.UnsetType = msgspec.UNSET
    denies_setgroups: bool = False
    first_ids: tuple[int, int] = (0, 0)
    front: str | msgspec.UnsetType = msgspec.UNSET


class ProcessRecord(msgspec.Struct, frozen=True):
    """An exec process, or init, that has been waited for if `exit_code` is there.

    The record is the name of an empty file, so that each change of it is one system call.
    """

    pid: int
    start_time: int
    exit_code: int | None = None
    signal: int | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    peak_memory_bytes: int | None = None
    oom_killed: bool | None = None

    def name(self) -> str:
        """pid and start time; then exit code, signal, microseconds of user and of system, bytes, and 1 or 0 for killed for
        want of memory; `-` where there is none."""
        if self.exit_code is None:
            return f"{self.pid}.{self.start_time}"
        parts = (self.exit_code, self.signal, _microseconds(self.user_seconds), _microseconds(self.system_seconds),
                 self.peak_memory_bytes, None if self.oom_killed is None else int(self.oom_killed))
        return ".".join((str(self.pid), str(self.start_time), *("-" if part is None else str(part) for part in parts)))

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """None for what is no such name."""
        try:
            pid, start_time, *parts = (None if part == "-" else int(part) for part in name.split("."))
        except ValueError:
            return None
        if pid is None or start_time is None or len(parts) not in (0, 6) or (parts and parts[0] is None):
            return None
        if not parts:
            return cls(pid, start_time)
        exit_code, signal, user, system, peak_bytes, oom_killed = parts
        return cls(pid, start_time, exit_code, signal, _seconds(user), _seconds(system), peak_bytes,
                   None if oom_killed is None else bool(oom_killed))


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
