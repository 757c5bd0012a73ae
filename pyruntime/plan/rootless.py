"""What a container of a caller without privileges cannot be, however valid its configuration is."""

from __future__ import annotations

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.plan.resources import PATH, resource_writes
from pyruntime.spec import Linux, NamespaceType, Resources, Spec

NO_DELEGATION = "no cgroup is delegated to this user: above the caller's own one in cgroup v2 there is none that it may write to"
_ANY = Cgroup("", 0, (), True)


def refuse_without_privileges(spec: Spec, cgroups: tuple[Cgroup, ...], host: Host) -> None:
    """Raises UnsupportedFieldError."""
    caller, linux = host.caller, spec.linux
    if caller is not None and linux.namespace(NamespaceType.USER) is None:
        raise UnsupportedFieldError(None, "$.linux.namespaces", f"has no user namespace, which uid {caller.uid} needs to make a container "
                                    "without CAP_SYS_ADMIN")
    if caller is not None and linux.namespace(NamespaceType.MOUNT) is None:
        raise UnsupportedFieldError(None, "$.linux.namespaces", "has no mount namespace of its own, in which alone a user can mount")
    for i, mount in enumerate(spec.mounts):
        if mount.uid_mappings or parse_mount_options(mount.options).mapping is not None:
            raise UnsupportedFieldError(None, f"$.mounts[{i}].uidMappings" if mount.uid_mappings else f"$.mounts[{i}].options",
                                        "the kernel maps the ids of a mount only for who has mounted its file system")
    for i, namespace in enumerate(linux.namespaces):
        if namespace.type is NamespaceType.MOUNT and namespace.path:
            raise UnsupportedFieldError(None, f"$.linux.namespaces[{i}].path", "a mount namespace cannot be joined without privileges: what "
                                        "is mounted in it could not be copied from the caller's")
    if not cgroups:
        refuse_cgroups(linux, host.page_size)


def refuse_cgroups(linux: Linux, page_bytes: int) -> None:
    """Of a container without one: limits that do not hold would be worse than none. Raises UnsupportedFieldError."""
    if linux.cgroups_path:
        raise UnsupportedFieldError(None, "$.linux.cgroupsPath", f"{linux.cgroups_path!r} cannot be made: {NO_DELEGATION}")
    if linux.resources is not None:
        refuse_limits(linux.resources, page_bytes, PATH)


def refuse_limits(resources: Resources, page_bytes: int, json_path: str) -> None:
    """Any of a container without a cgroup. json_path: of the resources. Raises UnsupportedFieldError."""
    for write in resource_writes((_ANY,), resources, page_bytes, json_path):
        raise UnsupportedFieldError(None, write.json_path, f"cannot hold: {NO_DELEGATION}")
