"""Whose a container's cgroup is (config-linux.md, "Cgroup ownership")."""

from __future__ import annotations

from pyruntime.cgroups.paths import Cgroup
from pyruntime.host import Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.id_maps import host_id
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.spec import NamespaceType, Spec


def own_cgroups(draft: Draft, cgroups: tuple[Cgroup, ...], spec: Spec, host: Host) -> None:
    """Give the container's process its cgroup, where it has a namespace of its own for cgroups and finds them mounted to be written.

    On v2 alone: a v1 cgroup that is given away is no limit any more. Without privileges it is the caller's, who is the container's root.
    """
    if host.is_rootless or not cgroups or not all(cgroup.is_v2 for cgroup in cgroups):
        return
    namespace = spec.linux.namespace(NamespaceType.CGROUP)
    if namespace is None or namespace.path:
        return
    json_path = _writable_mount(spec)
    uid = _owner(spec)
    if json_path is not None and uid:
        for cgroup in cgroups:
            draft.host.append(op.OwnCgroup(json_path, cgroup.path.encode(), uid))


def _writable_mount(spec: Spec) -> str | None:
    for i, mount in enumerate(spec.mounts):
        options = parse_mount_options(mount.options)
        is_read_only = (options.set & ~options.recursive_clear | options.recursive_set) & flags.MOUNT_ATTR_RDONLY
        if mount.type in ("cgroup", "cgroup2") and not is_read_only:
            return f"$.mounts[{i}]"
    return None


def _owner(spec: Spec) -> int | None:
    """On the host; None where it is not mapped, or not known since the namespace is somebody else's."""
    uid = spec.process.user.uid if spec.process is not None else 0
    user = spec.linux.namespace(NamespaceType.USER)
    if user is None:
        return uid
    return None if user.path else host_id(spec.linux.uid_mappings, uid)
