"""Namespaces, and what is about one: id mappings, clocks, names, network interfaces, sysctls.

That a setting would be the host's for want of a namespace is no fault of the document, and refused where a container is made of it (host.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyruntime.spec.checks.text import check_absolute
from pyruntime.spec.container import Spec
from pyruntime.spec.isolation import IDMapping, Linux, Namespace, NamespaceType, NetDevice, sysctl_namespace, sysctl_path
from pyruntime.spec.process import User
from pyruntime.spec.refusal import Refused, entry, quote

Namespaces = dict[NamespaceType, Namespace]

_LONGEST_UTS_NAME = 64  # __NEW_UTS_LEN
_LONGEST_INTERFACE_NAME = 15  # IFNAMSIZ, which counts the NUL
_MOST_MAPPINGS = 340  # UID_GID_MAP_MAX_EXTENTS


def check_namespaces(spec: Spec) -> None:
    """Refuse namespaces that contradict each other, and what contradicts them."""
    linux = spec.linux
    namespaces = _by_type(linux)
    _check_user_namespace(spec, namespaces.get(NamespaceType.USER))
    if spec.hostname is not None:
        _check_uts_name(spec.hostname, "$.hostname")
    if spec.domainname is not None:
        _check_uts_name(spec.domainname, "$.domainname")
    if linux.time_offsets:
        _check_clocks(namespaces.get(NamespaceType.TIME))
    if linux.net_devices:
        _check_net_devices(linux.net_devices)
    for key in linux.sysctl:
        json_path = entry("$.linux.sysctl", key)
        _check_sysctl(key, json_path)
        if spec.domainname is not None and sysctl_path(key) == "kernel/domainname" and linux.sysctl[key] != spec.domainname:
            raise Refused(json_path, f"is {quote(linux.sysctl[key])}, but the field `domainname` is {quote(spec.domainname)}")


def _by_type(linux: Linux) -> Namespaces:
    namespaces: Namespaces = {}
    for i, namespace in enumerate(linux.namespaces):
        if namespace.type in namespaces:
            raise Refused(f"$.linux.namespaces[{i}].type", f"{quote(namespace.type.value)} is given twice")
        namespaces[namespace.type] = namespace
        if namespace.path is not None:
            check_absolute(namespace.path, f"$.linux.namespaces[{i}].path")
    return namespaces


def _check_user_namespace(spec: Spec, namespace: Namespace | None) -> None:
    linux = spec.linux
    for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        if mappings:
            if namespace is None:
                raise Refused(f"$.linux.{name}", "needs a user namespace")
            check_mappings(mappings, f"$.linux.{name}")
        elif namespace is not None and namespace.path is None:
            raise Refused(f"$.linux.{name}", "is required for a new user namespace, but missing or empty")
    if namespace is not None and namespace.path is None and spec.process is not None:
        _check_user_is_mapped(spec.process.user, linux)


def _check_user_is_mapped(user: User, linux: Linux) -> None:
    ids = [("uid", user.uid, linux.uid_mappings), ("gid", user.gid, linux.gid_mappings)]
    ids += [(f"additionalGids[{i}]", gid, linux.gid_mappings) for i, gid in enumerate(user.additional_gids)]
    for field, id, mappings in ids:
        if not any(0 <= id - mapping.container_id < mapping.size for mapping in mappings):
            raise Refused(f"$.process.user.{field}", f"is {id}, which the container's mappings leave out")


def check_mappings(mappings: Sequence[IDMapping], json_path: str) -> None:
    """What the kernel does not take as an id map (user_namespaces(7)); both sides are mapped once only."""
    if len(mappings) > _MOST_MAPPINGS:
        raise Refused(json_path, f"has {len(mappings)} entries, but the kernel takes at most {_MOST_MAPPINGS}")
    for i, mapping in enumerate(mappings):
        for name, first in (("containerID", mapping.container_id), ("hostID", mapping.host_id)):
            if first + mapping.size > 2**32 - 1:
                raise Refused(f"{json_path}[{i}].size", f"is {mapping.size}, which from {name} {first} goes beyond the "
                              f"last id {2**32 - 2}")
        for earlier in mappings[:i]:
            if _overlap(mapping.container_id, mapping.size, earlier.container_id, earlier.size):
                raise Refused(f"{json_path}[{i}].containerID", f"maps ids from {mapping.container_id} on twice")
            if _overlap(mapping.host_id, mapping.size, earlier.host_id, earlier.size):
                raise Refused(f"{json_path}[{i}].hostID", f"maps to ids from {mapping.host_id} on twice")


def _overlap(first: int, size: int, other_first: int, other_size: int) -> bool:
    return first < other_first + other_size and other_first < first + size


def _check_uts_name(name: str, json_path: str) -> None:
    if len(name.encode()) > _LONGEST_UTS_NAME:
        raise Refused(json_path, f"{quote(name)} is longer than {_LONGEST_UTS_NAME} bytes")


def _check_clocks(namespace: Namespace | None) -> None:
    if namespace is None:
        raise Refused("$.linux.timeOffsets", "needs a time namespace")
    if namespace.path is not None:
        raise Refused("$.linux.timeOffsets", f"cannot be set in {quote(namespace.path)}, which exists already")


def _check_net_devices(devices: Mapping[str, NetDevice]) -> None:
    seen = set()
    for host_name, device in devices.items():
        json_path = entry("$.linux.netDevices", host_name)
        _check_interface_name(host_name, json_path)
        name = host_name
        if device.name is not None:
            name, json_path = device.name, f"{json_path}.name"
            # a template, from which the kernel makes a free name
            _check_interface_name(name.replace("%d", "0", 1), json_path, name)
        if name in seen and "%d" not in name:
            raise Refused(json_path, f"{quote(name)} is the name of two interfaces")
        seen.add(name)


def _check_interface_name(name: str, json_path: str, shown: str | None = None) -> None:
    """What dev_valid_name() of the kernel refuses, and a `%`, which it would take for a template."""
    if (not 1 <= len(name.encode()) <= _LONGEST_INTERFACE_NAME or name in (".", "..")
            or any(character in "/:%" or character.isspace() for character in name)):
        raise Refused(json_path, f"{quote(name if shown is None else shown)} is not the name of a network interface")


def _check_sysctl(key: str, json_path: str) -> None:
    path = sysctl_path(key)
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise Refused(json_path, f"{quote(key)} is not the name of a kernel parameter")
    if path == "kernel/hostname":
        raise Refused(json_path, "is what the field `hostname` is for")
    if sysctl_namespace(key) is None:
        raise Refused(json_path, f"{quote(key)} belongs to no namespace: the host's would change")
