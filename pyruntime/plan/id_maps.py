"""The id maps of a new user namespace, and who writes them (user_namespaces(7))."""

from __future__ import annotations

from collections.abc import Mapping

from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import PROGRAM_DIRECTORIES, Host, Unprivileged
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.mapped_mounts import id_map
from pyruntime.spec import IDMapping, Linux, NamespaceType

UIDS, GIDS = "$.linux.uidMappings", "$.linux.gidMappings"
Mappings = tuple[IDMapping, ...]
# "1": the container has the caller's groups instead of additionalGids, with crun (crun.1); `podman run --group-add keep-groups` states it
KEEP_GROUPS_ANNOTATION = "run.oci.keep_original_groups"


def keeps_groups(annotations: Mapping[str, str]) -> bool:
    """Whether the caller's supplementary groups stay. They cannot be listed: in a user namespace most are not mapped."""
    return annotations.get(KEEP_GROUPS_ANNOTATION) == "1"


def maps_alone(mappings: Mappings, id: int) -> bool:
    """Whether this is the only id of the host: of its own one, anybody may make another."""
    return len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == id


def denies_setgroups(linux: Linux, caller: Unprivileged | None) -> bool:
    """Whether a new user namespace lets no groups be set: the kernel's condition for a caller without privileges that maps its gid itself."""
    user = linux.namespace(NamespaceType.USER)
    return user is not None and not user.path and caller is not None and maps_alone(linux.gid_mappings, caller.gid)


def setgroups_of(linux: Linux, annotations: Mapping[str, str], host: Host) -> int:
    """SETGROUPS_... of the container's user namespace; of one that is joined, or inherits it, that is not known."""
    if keeps_groups(annotations):
        return flags.SETGROUPS_NOT_WANTED
    user = linux.namespace(NamespaceType.USER)
    if (user is not None and user.path) or host.in_user_namespace:
        return flags.SETGROUPS_MAY_BE_DENIED
    return flags.SETGROUPS_DENIED if denies_setgroups(linux, host.caller) else flags.SETGROUPS_ALLOWED


def write_id_maps(draft: Draft, linux: Linux, caller: Unprivileged | None) -> None:
    """While the child waits to be released. caller: one without privileges.

    Raises UnsupportedFieldError where a program is needed that is not installed.
    """
    uids, gids = linux.uid_mappings, linux.gid_mappings
    if denies_setgroups(linux, caller):
        draft.child.append(op.WriteChildProc(GIDS, b"setgroups", b"deny"))
    draft.child.append(_map(UIDS, b"uid_map", uids, (caller.uid, caller.newuidmap, "newuidmap") if caller is not None else None))
    draft.child.append(_map(GIDS, b"gid_map", gids, (caller.gid, caller.newgidmap, "newgidmap") if caller is not None else None))


def first_ids_of(linux: Linux) -> tuple[int, int]:
    """uid and gid that the init has while it sets up: the user namespace's root, if there is one."""
    user = linux.namespace(NamespaceType.USER)
    if user is None or user.path:
        return 0, 0
    return _first(linux.uid_mappings), _first(linux.gid_mappings)


def _first(mappings: Mappings) -> int:
    if any(mapping.container_id == 0 for mapping in mappings):
        return 0
    return min(mapping.container_id for mapping in mappings)


def host_id(mappings: Mappings, id: int) -> int | None:
    """What an id of the container is on the host; None if it is not mapped."""
    return next((id - mapping.container_id + mapping.host_id for mapping in mappings
                 if 0 <= id - mapping.container_id < mapping.size), None)


def _map(json_path: str, file: bytes, mappings: Mappings, by: tuple[int, str | None, str] | None) -> op.Operation:
    """by: the caller's own id, where the program is that maps others, and its name."""
    if by is None or maps_alone(mappings, by[0]):
        return op.WriteChildProc(json_path, file, id_map(mappings))
    own, program, name = by
    if program is None:
        raise UnsupportedFieldError(None, json_path, f"maps more than the caller's own id {own}, for which a caller without privileges needs "
                                    f"{name} (Debian's package uidmap); it is in none of {', '.join(PROGRAM_DIRECTORIES)}")
    numbers = (b"%d" % number for mapping in mappings for number in _numbers(mapping))
    return op.MapChildIds(json_path, program.encode(), (program.encode(), b"", *numbers))


def _numbers(mapping: IDMapping) -> tuple[int, int, int]:
    return mapping.container_id, mapping.host_id, mapping.size
