"""Where a container's cgroups are (pure)."""

from __future__ import annotations

import msgspec

from pyruntime.host import Host

DEFAULT_PARENT = "/pyruntime"


class Cgroup(msgspec.Struct, frozen=True):
    """One directory of the container's, in one hierarchy."""

    path: str
    mount_length: int
    controllers: tuple[str, ...]
    is_v2: bool

    @property
    def name(self) -> str:
        """What the hierarchy is called below /sys/fs/cgroup: `cpu,cpuacct`, `systemd`, `unified`."""
        return self.path[:self.mount_length].rpartition("/")[2]


def cgroup_path_of(cgroups_path: str | None, id: str) -> str:
    """Where a container's cgroup is. Absolute and relative paths start at the hierarchy's root, never at the caller's own cgroup;
    without one it is /pyruntime/ID (config-linux.md, "Cgroups Path")."""
    return "/" + cgroups_path.strip("/") if cgroups_path else f"{DEFAULT_PARENT}/{id}"


def cgroups_of(host: Host, path: str) -> tuple[Cgroup, ...]:
    """The cgroup of that path in every hierarchy."""
    return tuple(Cgroup(hierarchy.mount_point + path, len(hierarchy.mount_point), hierarchy.controllers, hierarchy.is_v2)
                 for hierarchy in host.hierarchies)
