"""The plan of a criu that restores a container: it is in the container's cgroups, which what it restores inherits, and in a mount
namespace of its own, in which everything is mounted that the container is to have of the host."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from pyruntime.cgroups.paths import Cgroup, cgroups_of
from pyruntime.errors import InvalidBundleError
from pyruntime.host import Host
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.compile import Place, cgroup_path_for, join_groups_of
from pyruntime.plan.draft import Draft
from pyruntime.plan.filesystem import FilesystemCompiler, default_devices
from pyruntime.plan.operations import Plan
from pyruntime.plan.resources import join_cgroups, make_cgroups
from pyruntime.spec import NamespaceType, Spec, refuse_for_host

ROOT = "root"


def mount_place(index: int) -> str:
    """Where `mounts[index]` is, below the container's state directory in criu's mount namespace."""
    return f"mounts/{index}"


def device_place(device: tuple[int, int, int]) -> str:
    """The same of a node: major, minor, 1 for a block device."""
    return "devices/{}-{}-{}".format(*device)


def cgroup_place(controllers: str) -> str:
    """The same of the container's cgroup in a v1 hierarchy with these controllers, or in the v2 one ('')."""
    return f"cgroups/{controllers or 'unified'}"


def cgroup_name(cgroup: Cgroup) -> str:
    """What a checkpoint has of its hierarchy: the controllers of a v1 one, '' for v2."""
    return "" if cgroup.is_v2 else ",".join(cgroup.controllers)


class Sources(msgspec.Struct, frozen=True):
    """What a restored container has of the host: indices in `mounts`, cgroups by `cgroup_name`, nodes; and where in its root something
    is mounted, with whether that is a directory."""

    mounts: frozenset[int]
    cgroups: frozenset[str]
    devices: frozenset[tuple[int, int, int]]
    mount_points: tuple[tuple[str, bool], ...] = ()


def compile_restore(spec: Spec, host: Host, place: Place, sources: Sources, criu: op.ExecuteProgram, given_fds: int,
                    inherits_cgroups: bool) -> Plan:
    """given_fds: so many of the caller's descriptors reach criu. inherits_cgroups: CRIU does nothing about cgroups, so that a cgroup
    namespace of the container's own is made here, where the container's cgroups are its root.

    Raises InvalidBundleError, also where the bundle does not have what the checkpoint needs of it.
    """
    refuse_for_host(spec)
    draft = Draft(overlaps=True)
    path = cgroup_path_for(spec, place.id, host, place.units)
    assert path is not None  # nobody restores without privileges
    cgroups = cgroups_of(host, path)
    draft.init.append(op.UnshareNamespaces("", flags.CLONE_NEWNS))
    draft.await_sources()
    make_cgroups(draft, cgroups, spec.linux.resources, host.page_size, are_a_units=place.units is not None,
                 has_path=bool(spec.linux.cgroups_path))
    join_cgroups(draft, cgroups)
    if spec.linux.intel_rdt is not None:
        join_groups_of(draft, spec.linux.intel_rdt, host, place.id)
    if inherits_cgroups and any(n.type == NamespaceType.CGROUP and not n.path for n in spec.linux.namespaces):
        draft.init.append(op.UnshareNamespaces("$.linux.namespaces", flags.CLONE_NEWCGROUP))
    directory = os.fsencode(place.state_directory)
    top, root = draft.init_slot(), draft.source_slot()
    # nothing of the host's changes, whatever ends this: all of it goes with the namespace
    draft.init += [op.IsolatePropagation(""),
                   op.NewFilesystem("", b"tmpfs", (b"mode=700", b"source=pyruntime"), top, 0, place.state_directory),
                   op.MountRoot("", directory, top), op.EnterRoot("", top, place.state_directory)]
    draft.sources.append(op.OpenTree("$.root.path", os.fsencode(place.rootfs_path), root, 1, flags.MS_SLAVE))
    draft.init.append(op.AttachMount("$.root.path", f"/{ROOT}".encode(), root, 0))
    # a copy of the root may be without what was made in it for mounts
    draft.init += [op.EnterRoot("$.root.path", root, place.rootfs_path),
                   *(op.MakeMountPoint("", path.encode(), int(is_directory)) for path, is_directory in sources.mount_points),
                   op.EnterRoot("", top, place.state_directory)]
    if spec.root.readonly:  # CRIU takes the root as it is
        draft.init.append(op.SetMountAttributes("$.root.readonly", root, flags.MOUNT_ATTR_RDONLY, 0, 0, 0, "/"))
    _attach_mounts(draft, spec, host, place, cgroups, sources)
    _attach_devices(draft, spec, sources.devices)
    draft.init.append(criu)
    return msgspec.structs.replace(draft.finish(0), given_fds=given_fds)


def _attach_mounts(draft: Draft, spec: Spec, host: Host, place: Place, cgroups: tuple[Cgroup, ...], sources: Sources) -> None:
    """With the attributes that they have in the container: what is read-only there is so before criu touches it."""
    filesystem = FilesystemCompiler(draft, spec, place.bundle_path, place.rootfs_path, cgroups, False, host.kernel)
    for index in sorted(sources.mounts):
        if index >= len(spec.mounts):
            raise InvalidBundleError(None, "$.mounts", f"has {len(spec.mounts)} entries, and the checkpoint needs mounts[{index}]")
        filesystem.mount_at(f"/{mount_place(index)}", index)
    for name in sorted(sources.cgroups):
        found = next((cgroup for cgroup in cgroups if cgroup_name(cgroup) == name), None)
        if found is None:
            raise InvalidBundleError(None, "$.linux.cgroupsPath", f"this host has no cgroup hierarchy {name or 'of v2'}, in which the "
                                     "container of the checkpoint was")
        shown = next((i for i, mount in enumerate(spec.mounts) if mount.type in ("cgroup", "cgroup2")), None)
        if shown is None:
            raise InvalidBundleError(None, "$.mounts", "has no cgroup mount, and the checkpoint has one")
        filesystem.mount_cgroup_at(f"/{cgroup_place(name)}", found, shown)
    draft.init += [*filesystem.before, *filesystem.after, *filesystem.last]


def _attach_devices(draft: Draft, spec: Spec, devices: Iterable[tuple[int, int, int]]) -> None:
    """Only those that a container of this bundle has: the checkpoint does not choose."""
    allowed = dict(default_devices())
    for i, device in enumerate(spec.linux.devices):
        if device.major is not None and device.minor is not None:
            allowed[device.major, device.minor, int(device.type == "b")] = (f"$.linux.devices[{i}]", device.path.encode())
    for number in sorted(devices):
        major, minor, is_block = number
        if number not in allowed:
            raise InvalidBundleError(None, "$.linux.devices", f"has no device {major}:{minor}, which the container of the checkpoint has")
        json_path, path = allowed[number]
        slot = draft.source_slot()
        draft.sources.append(op.OpenTree(json_path, path, slot, 0, flags.MS_SLAVE, os.makedev(major, minor), is_block))
        draft.init.append(op.AttachMount(json_path, f"/{device_place(number)}".encode(), slot, 0))
