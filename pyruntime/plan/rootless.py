"""What a container of a caller without privileges cannot be, however valid its configuration is."""

from __future__ import annotations

from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan.mount_options import parse_mount_options
from pyruntime.spec import NamespaceType, Spec


def refuse_without_privileges(spec: Spec, host: Host) -> None:
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
