"""What a good document may ask for, and no container of this host can be given: another platform, and what would be set in the host's
own namespaces."""

from __future__ import annotations

from typing import NoReturn

from pyruntime.spec.container import Spec
from pyruntime.spec.isolation import NamespaceType, sysctl_namespace
from pyruntime.spec.process import Process
from pyruntime.spec.refusal import Refused, entry, quote

OTHER_PLATFORMS = ("freebsd", "solaris", "vm", "windows", "zos")


def check_platform(process: Process, json_path: str) -> None:
    """Refuse a process of another platform than Linux (config.md, "Process")."""
    if process.command_line is not None:
        _refuse_platform(f"{json_path}.commandLine", "windows")
    if process.user.username is not None:
        _refuse_platform(f"{json_path}.user.username", "windows")


def check_host(spec: Spec) -> None:
    """Refuse what is for another platform, and what a container without the namespace for it would do to the host.

    A joined namespace counts as the container's own; that it is not the host's is seen where it is opened (OpenNamespace).
    """
    for platform in OTHER_PLATFORMS:
        if getattr(spec, platform) is not None:
            _refuse_platform(f"$.{platform}", platform)
    if spec.process is not None:
        check_platform(spec.process, "$.process")
    linux = spec.linux
    namespaces = {namespace.type for namespace in linux.namespaces}
    if NamespaceType.UTS not in namespaces:
        for field, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
            if name is not None:
                raise Refused(f"$.{field}", f"{quote(name)} needs a uts namespace: the host's name would change")
    if NamespaceType.MOUNT not in namespaces:
        if NamespaceType.USER in namespaces:
            raise Refused("$.linux.namespaces", "has a user namespace and no mount namespace: from there nothing can be mounted in the host's",
                          unsupported=True)
        for field, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
            if paths:
                raise Refused(f"$.linux.{field}", "needs a mount namespace: the host's files would be affected")
    if linux.net_devices and NamespaceType.NETWORK not in namespaces:
        raise Refused("$.linux.netDevices", "needs a network namespace")
    for key in linux.sysctl:
        needed = sysctl_namespace(key)
        if needed not in namespaces:
            raise Refused(entry("$.linux.sysctl", key), f"{quote(key)} needs a namespace of type '{needed}': the host's would change")


def _refuse_platform(json_path: str, platform: str) -> NoReturn:
    """Raises Refused."""
    raise Refused(json_path, f"is for another platform, {platform!r}, and this is 'linux'", unsupported=True)
