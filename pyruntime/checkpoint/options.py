"""What can be chosen of a checkpoint and of a restore."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping

import msgspec


class CgroupsMode(enum.StrEnum):
    """What CRIU does about cgroups below the container's own (criu(8), --manage-cgroups). The container's own are pyruntime's."""

    SOFT = "soft"
    FULL = "full"
    STRICT = "strict"
    IGNORE = "ignore"


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What CRIU refuses unless it is told that it is wanted, the same for a checkpoint and for its restore.

    tcp_established      connections over TCP
    external_unix_sockets   connections over unix sockets with processes outside
    shell_job            a session or terminal whose leader is outside
    file_locks           locks of files
    empty_network        the network namespace is left empty, for somebody to fill
    lazy_pages           memory is fetched when it is used, from the checkpoint, which serves it
    auto_dedup           what was read of an earlier checkpoint is freed there
    cgroups_mode         None: soft if there are cgroups below the container's own at the checkpoint, else ignore
    """

    tcp_established: bool = False
    external_unix_sockets: bool = False
    shell_job: bool = False
    file_locks: bool = False
    empty_network: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    cgroups_mode: CgroupsMode | None = None


class CheckpointOptions(Permissions, frozen=True, kw_only=True):
    """Of `checkpoint_container`, besides Permissions.

    work_path        directory for CRIU's log `dump.log` and its statistics; None: the image's
    parent_path      an earlier pre-dump, relative to the image: memory that has not changed since is not written again
    leave_running    the container goes on; otherwise it has stopped afterwards
    pre_dump         write the memory alone, and let the container go on: for `parent_path` of a later one
    link_remap       files that were removed while they are open get a name beside them meanwhile
    tcp_skip_in_flight  connections that are just being made are left out
    page_server      (address, port) of a `criu page-server` that takes the memory
    status_fd        the caller's descriptor to which a NUL is written when `lazy_pages` are served; it is closed then
    """

    work_path: str | None = None
    parent_path: str | None = None
    leave_running: bool = False
    pre_dump: bool = False
    link_remap: bool = False
    tcp_skip_in_flight: bool = False
    page_server: tuple[str, int] | None = None
    status_fd: int | None = None


class RestoreOptions(Permissions, frozen=True, kw_only=True):
    """Of `restore_container`, besides Permissions.

    work_path           directory for CRIU's log `restore.log` and its statistics; None: the image's
    lsm_profile         the AppArmor profile or SELinux label, `apparmor:NAME`, instead of the one at the checkpoint
    lsm_mount_context   the SELinux context of mounts
    """

    work_path: str | None = None
    lsm_profile: str | None = None
    lsm_mount_context: str | None = None


def check_parent_path(image_path: str, parent_path: str) -> None:
    """Whether CRIU could find an earlier checkpoint: it keeps a link to it in the image. Raises ValueError with the reason."""
    if os.path.isabs(parent_path):
        raise ValueError(f"{parent_path!r} has to be relative to the image path")
    # the image's directory may have to be made yet
    if not os.path.isdir(os.path.realpath(os.path.join(image_path, parent_path))):
        raise ValueError(f"{parent_path!r} is no directory, seen from {os.path.abspath(image_path)!r}")


def permissions_of(options: Permissions) -> Mapping[str, object]:
    """As fields of CRIU's options."""
    fields: dict[str, object] = {
        "tcp_established": options.tcp_established, "ext_unix_sk": options.external_unix_sockets, "shell_job": options.shell_job,
        "file_locks": options.file_locks, "auto_dedup": options.auto_dedup, "lazy_pages": options.lazy_pages}
    if options.empty_network:
        fields["empty_ns"] = _CLONE_NEWNET
    return fields


_CLONE_NEWNET = 0x40000000
