"""What of a configuration is not as it says though the specification wants it accepted: told in words (runtime.md, "Warnings")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyruntime.host import Host
from pyruntime.plan import flags
from pyruntime.plan.device_rules import has_unknown_access
from pyruntime.plan.filesystem import keeps_hosts_node, protects_cgroups
from pyruntime.plan.mount_options import asks_for_writing
from pyruntime.plan.process import capability_bits
from pyruntime.spec import Linux, NamespaceType, Process, Resources, Spec


def warnings_of(spec: Spec, host: Host) -> tuple[str, ...]:
    """For a new container."""
    in_user_namespace = spec.linux.namespace(NamespaceType.USER) is not None
    is_any_users = in_user_namespace or host.in_user_namespace
    found = [*_of_mappings(spec.linux), *_of_mounts(spec, is_any_users), *_of_devices(spec.linux, is_any_users),
             *device_rule_warnings(spec.linux.resources, "linux.resources")]
    if not host.hierarchies and not host.is_rootless:
        found.append("not applied: linux.resources.devices, since the container has no cgroup: each device that it has or makes a node of is "
                     "open to it")
    if spec.process is not None:
        found += process_warnings(spec.process, host, in_user_namespace)
    return tuple(found)


def filter_warnings(unknown: Sequence[str]) -> tuple[str, ...]:
    """Of names in a filter that libseccomp does not know: profiles are written for newer kernels and other machines, too."""
    return (f"system calls that libseccomp does not know have no rules in the filter: {', '.join(unknown)}",) if unknown else ()


def device_rule_warnings(resources: Resources | None, place: str) -> list[str]:
    """Of rules that deny more than they say."""
    return [f"{place}.devices[{i}]: all access is denied, since {rule.access!r} has letters other than r, w, m"
            for i, rule in enumerate((resources.devices if resources is not None else None) or ()) if has_unknown_access(rule)]


def process_warnings(process: Process, host: Host, in_user_namespace: bool) -> tuple[str, ...]:
    """Of capabilities that are unknown or cannot be granted (config.md, "Linux Process").

    In a user namespace, whoever sets the process up holds every capability.
    """
    sets = process.capabilities
    if sets is None:
        return ()
    every = (1 << len(flags.CAPABILITIES)) - 1
    held = every if in_user_namespace else host.held_capabilities
    allowed = every if in_user_namespace else host.bounding_capabilities
    bounding = capability_bits(sets.bounding)
    permitted, inheritable = capability_bits(sets.permitted), capability_bits(sets.inheritable)
    of_process = (*sets.effective, *sets.permitted, *sets.inheritable, *sets.ambient)
    rows = (
        ("unknown capabilities", {name for name in (*sets.bounding, *of_process) if name not in flags.CAPABILITIES}),
        ("capabilities that the runtime does not hold itself", _without(sets.bounding, allowed) | _without(of_process, held)),
        ("effective capabilities that are not permitted", _without(sets.effective, permitted)),
        ("inheritable capabilities that are not in the bounding set", _without(sets.inheritable, bounding)),
    )
    found = [f"{what} are left out: {', '.join(sorted(names))}" for what, names in rows if names]
    ambient = sorted(_without(sets.ambient, permitted & inheritable & bounding))
    if ambient:  # in runc's words, which are searched for
        found.append(f"can't raise ambient capabilit{'ies' if len(ambient) > 1 else 'y'} {', '.join(ambient)}: not permitted and inheritable")
    return tuple(found)


def _without(names: Iterable[str], bits: int) -> set[str]:
    """The known ones that are not among those."""
    return {name for name in names if name in flags.CAPABILITIES and not bits >> flags.CAPABILITIES[name] & 1}


def _of_mappings(linux: Linux) -> list[str]:
    user = linux.namespace(NamespaceType.USER)
    if user is None or user.path is None or not (linux.uid_mappings or linux.gid_mappings):
        return []
    # containerd and CRI-O always give them, so they cannot be refused; whether they are the same is for the kernel to know
    given = [name for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)) if mappings]
    return [f"not applied: {' and '.join(given)}, since the user namespace {user.path!r}, which is joined, has its own"]


def _of_mounts(spec: Spec, in_user_namespace: bool) -> list[str]:
    found = []
    if spec.linux.namespace(NamespaceType.MOUNT) is None:
        found.append("no mount namespace: what the container mounts is mounted for the caller too, below the root, which confines no process "
                     "that may call chroot")
    if protects_cgroups(spec, in_user_namespace):
        # some write rw because they write it always
        writable = [mount.destination for mount in spec.mounts if mount.type in ("cgroup", "cgroup2") and asks_for_writing(mount.options)]
        if writable:
            found.append(f"read-only: {', '.join(map(repr, writable))}, since cgroups are writable in a user namespace only with a new "
                         "cgroup namespace")
    return found


def _of_devices(linux: Linux, in_user_namespace: bool) -> list[str]:
    kept = []
    for device in linux.devices:
        stated = [name for name, value in (("fileMode", device.file_mode), ("uid", device.uid), ("gid", device.gid)) if value is not None]
        if stated and keeps_hosts_node(device, in_user_namespace):
            kept.append(f"{', '.join(stated)} of {device.path!r}")
    return [f"not applied: {'; '.join(kept)}, since the devices of a user namespace are the host's"] if kept else []

