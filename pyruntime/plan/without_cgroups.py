"""A container without a cgroup: limits that do not hold would be worse than none."""

from __future__ import annotations

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan.resources import PATH, resource_writes
from pyruntime.spec import Linux, Resources

NO_DELEGATION = "no cgroup is delegated to this user: above the caller's own one in cgroup v2 there is none that it may write to"
_ANY = Cgroup("", 0, (), True)


def refuse_cgroups(linux: Linux, host: Host) -> None:
    """What a configuration asks of the cgroup that its container has not. Raises UnsupportedFieldError."""
    why = reason(host)
    # who is told to make none is told of all paths
    if linux.cgroups_path and host.makes_cgroups:
        raise UnsupportedFieldError(None, "$.linux.cgroupsPath", f"{linux.cgroups_path!r} cannot be made: {why}")
    if linux.resources is not None:
        refuse_limits(linux.resources, host.page_size, PATH, why)


def refuse_limits(resources: Resources, page_bytes: int, json_path: str, why: str) -> None:
    """Any of them but those of devices. json_path: of the resources. Raises UnsupportedFieldError."""
    for write in resource_writes((_ANY,), resources, page_bytes, json_path):
        raise UnsupportedFieldError(None, write.json_path, f"cannot hold: {why}")


def reason(host: Host) -> str:
    """Why there is none."""
    if not host.makes_cgroups:
        return "this runtime was told to make no cgroups"
    return NO_DELEGATION if host.is_rootless else "no cgroups are mounted on this host"
