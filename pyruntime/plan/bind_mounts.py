"""Bind mounts: copies of what the host has mounted, or of what is mounted in the container already."""

from __future__ import annotations

import os
import posixpath

import msgspec

from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.inside import source_inside_root
from pyruntime.plan.mapped_mounts import MountMappings, map_ids
from pyruntime.plan.mount_options import MountOptions
from pyruntime.plan.operations import Slot
from pyruntime.spec import Mount


def _shows_hosts_cgroups(path: str) -> bool:
    """Whether the host's cgroups are below a path of the host."""
    path = posixpath.normpath(path)
    return path in ("/sys", "/sys/fs", "/sys/fs/cgroup") or path.startswith("/sys/fs/cgroup/")


class BindMounts:
    """What is of the host is copied by the host; what is in the root file system by the init, when all that comes before it in the
    configuration is mounted: `mounts`, to which it adds."""

    def __init__(self, draft: Draft, bundle_path: str, rootfs_path: str, isolation: int, in_user_namespace: bool,
                 mappings: MountMappings, mounts: list[op.Operation]) -> None:
        self._draft = draft
        self._bundle_path = bundle_path
        self._rootfs_path = rootfs_path
        self._isolation = isolation
        self._in_user_namespace = in_user_namespace
        self._mappings = mappings
        self._mounts = mounts

    def bind(self, mount: Mount, options: MountOptions, target: bytes, json_path: str, late: int) -> Slot:
        """One that is attached nowhere yet. late: attributes that somebody sets later."""
        assert mount.source is not None  # by spec.checks; the bundle itself is none of the container's business
        source = os.path.join(self._bundle_path, mount.source)
        if self._in_user_namespace and options.recursive_bind and options.set & f.MOUNT_ATTR_RDONLY and _shows_hosts_cgroups(source):
            # below /sys are cgroups that belong to who is root in the container
            options = msgspec.structs.replace(options, recursive_set=options.recursive_set | f.MOUNT_ATTR_RDONLY)
        # without privileges the kernel itself sees to it
        is_checked = self._in_user_namespace and not self._draft.is_rootless and options.may_unlock()
        options = options.of_bind_mount(self._in_user_namespace)
        options = msgspec.structs.replace(options, set=options.set & ~late)
        inner = source_inside_root(mount.source, self._bundle_path, self._rootfs_path)
        slot = self.copy(f"{json_path}.source", source, options, f"{json_path}.options", target, inner, is_checked)
        if options.mapping is not None or mount.uid_mappings:
            namespace = self._mappings.namespace_of(mount, options.mapping, json_path)
            mapping = map_ids(mount, options, json_path, slot, namespace, target)
            if inner is None:
                self._draft.trees.append(mapping)
            elif self._in_user_namespace and not self._draft.is_rootless:
                # only who has privileges over the file system may
                self._mounts.append(op.OfferMount(mapping.json_path, slot, mapping.place))
                self._draft.offered.append(op.MapOfferedMount(mapping.json_path, namespace, mapping.recursive, mapping.place))
            else:
                self._mounts.append(mapping)
        return slot

    def copy(self, json_path: str, source: str, options: MountOptions, options_path: str, target: bytes, inner: str | None = None,
             is_checked: bool = False) -> Slot:
        """The same of a path of the host. inner: what it is in the container, where it is one of the root file system's. is_checked: nothing
        of what the host has made read-only, `nosuid` and so on may become otherwise."""
        operations = self._draft.trees if inner is None else self._mounts
        slot = self._draft.tree_slot() if inner is None else self._draft.init_slot()
        attributes = options.set or options.clear
        # of a single mount all can be set at once
        later = self._isolation if attributes and not options.recursive_bind else 0
        propagation = 0 if later else self._isolation
        if inner is None:
            operations.append(op.OpenTree(json_path, os.fsencode(source), slot, int(options.recursive_bind), propagation))
        else:
            operations.append(op.CopyTree(json_path, os.fsencode(inner), slot, int(options.recursive_bind), propagation))
        if attributes:
            kind = op.SetUnlockedAttributes if is_checked else op.SetMountAttributes
            operations.append(kind(options_path, slot, options.set, options.clear, later, 0, target.decode()))
        if options.recursive_set or options.recursive_clear:
            operations.append(op.SetMountAttributes(options_path, slot, options.recursive_set, options.recursive_clear,
                                                    0, 1, target.decode()))
        return slot
