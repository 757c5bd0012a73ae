"""Root, mounts, devices and protected paths of a container."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

import msgspec

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.bind_mounts import BindMounts
from pyruntime.plan.draft import Draft
from pyruntime.plan.inside import each_once, inside, source_inside_root
from pyruntime.plan.mapped_mounts import MountMappings, map_ids
from pyruntime.plan.mount_options import MountOptions, parse_mount_options, refuse_unknown_options
from pyruntime.plan.operations import Slot
from pyruntime.plan.process import console
from pyruntime.spec import Device, Mount, NamespaceType, Spec

# config-linux.md, "Default Devices"; ptmx is a link, console is bound where there is a terminal
_DEFAULT_DEVICES = ((b"/dev/null", 1, 3), (b"/dev/zero", 1, 5), (b"/dev/full", 1, 7), (b"/dev/random", 1, 8),
                    (b"/dev/urandom", 1, 9), (b"/dev/tty", 5, 0))
_DEFAULT_LINKS = ((b"/dev/fd", b"/proc/self/fd"), (b"/dev/stdin", b"/proc/self/fd/0"),
                  (b"/dev/stdout", b"/proc/self/fd/1"), (b"/dev/stderr", b"/proc/self/fd/2"))
_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# file systems that the kernel lets a user namespace mount only where one of the kind is visible, so before the change of root
_NEED_VISIBLE = ("proc", "sysfs")
# and those that name no path of the host; a block device or the layers of an overlay are found before the change of root alone
_WITHOUT_PATHS = frozenset({"bpf", "cgroup", "cgroup2", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "proc",
                            "ramfs", "securityfs", "sysfs", "tmpfs", "tracefs"})
# of which each mount is another file system; a disk, and what belongs to a namespace, may be the host's as well
_NEW_AT_EACH_MOUNT = frozenset({"devpts", "hugetlbfs", "overlay", "proc", "ramfs", "tmpfs"})
_NULL = os.makedev(1, 3)


def default_devices() -> dict[tuple[int, int, int], tuple[str, bytes]]:
    """JSON path and path of the host by major, minor and 0, for character devices."""
    return {(major, minor, 0): ("", path) for path, major, minor in _DEFAULT_DEVICES}


def _binds_dev(spec: Spec) -> bool:
    """Whether /dev is the host's or an engine's: what is in it is their choice."""
    last = next((mount for mount in reversed(spec.mounts) if inside(mount.destination) == "/dev"), None)
    return last is not None and not {"bind", "rbind"}.isdisjoint(last.options)


def keeps_hosts_node(device: Device, in_user_namespace: bool) -> bool:
    """Whether mode and owner of a device are those of the host's node, whatever the configuration says.

    In a user namespace no device can be made, so the host's is bound, and its owner may have no id there.
    """
    return in_user_namespace and device.type != "p"


def protects_cgroups(spec: Spec, in_user_namespace: bool) -> bool:
    """Whether none of the container's mounts of cgroups may be written to: the cgroup namespace is shared, and the container's root may be a
    user to whom the cgroups above belong (CVE-2023-25809). Of others, that is the configuration's choice: what is shown is the
    container's own cgroup in any case."""
    namespace = spec.linux.namespace(NamespaceType.CGROUP)
    return in_user_namespace and (namespace is None or namespace.path is not None)


class _Mounted(NamedTuple):
    """What the configuration has mounted at a target; is_own: a file system that nobody else has."""

    slot: Slot
    is_own: bool = False
    stays_read_only: bool = False


# fsconfig(2) takes no longer string
_LONGEST_VALUE = 255


def _split_layers(option: str, kernel: tuple[int, int]) -> list[str]:
    """An overlay's option; a list of lower layers that is too long for one becomes one for each layer (Linux 6.5)."""
    layers = option.removeprefix("lowerdir=")
    if layers == option or len(layers.encode()) <= _LONGEST_VALUE or kernel < (6, 5) or "::" in layers or "\\" in layers:
        return [option]
    return [f"lowerdir+={layer}" for layer in layers.split(":")]


def _of_new_mount(options: MountOptions) -> int:
    """The attributes of a mount that has nothing below it, so that the recursive options are options like others."""
    return options.set & ~options.recursive_clear | options.recursive_set


class FilesystemCompiler:
    """Collects what goes before and after the change of root, so that `compile` can put namespaces between.

    root_place   of the directory where hooks look for the root, if any do and it is not there by itself
    mounts   what of `after` works before the change of root too, once the root is the current directory: mounts and devices
    """

    def __init__(self, draft: Draft, spec: Spec, bundle_path: str, rootfs_path: str, cgroups: tuple[Cgroup, ...],
                 in_user_namespace: bool, kernel: tuple[int, int], joined_user_namespace: Slot | None = None) -> None:
        self.draft = draft
        self.spec = spec
        self.bundle_path = bundle_path
        self.rootfs_path = rootfs_path
        self.cgroups = cgroups
        self.in_user_namespace = in_user_namespace
        self.protects_cgroups = protects_cgroups(spec, in_user_namespace)
        self.kernel = kernel
        self.root_place: Slot | None = None
        self.before: list[op.Operation] = []
        self.mounts: list[op.Operation] = []
        self.after: list[op.Operation] = []
        self.last: list[op.Operation] = []
        linux = spec.linux
        self.linux = linux
        self.binds_dev = _binds_dev(spec)
        self.mappings = MountMappings(draft, linux, joined_user_namespace)
        self.mounted: dict[bytes, _Mounted] = {}
        # by default nothing of the container's reaches the host, and mounts of the host still reach the container
        self.isolation = {"private": f.MS_PRIVATE, "rprivate": f.MS_PRIVATE, "shared": 0, "rshared": 0}.get(
            linux.rootfs_propagation or "rslave", f.MS_SLAVE)
        self.binds = BindMounts(draft, bundle_path, rootfs_path, self.isolation, in_user_namespace, self.mappings, self.after)

    def compile(self) -> Slot:
        """Fill the lists; return the slot of the root."""
        root = self.draft.tree_slot()
        # pivot_root refuses a shared root; it becomes shared afterwards
        self.draft.trees.append(op.OpenTree("$.root.path", os.fsencode(self.rootfs_path), root, 1, self.isolation or f.MS_SLAVE))
        if str(self.linux.rootfs_propagation).removeprefix("r") == "shared":
            # with whom it shares is nobody's affair outside; what is mounted below may be a volume
            self.draft.trees.append(op.SetMountAttributes("$.linux.rootfsPropagation", root, 0, 0, f.MS_PRIVATE, 0, "/"))
        self.mounted[b"/"] = _Mounted(root)
        for i, mount in enumerate(self.spec.mounts):
            self._mount(mount, f"$.mounts[{i}]")
        self._devices()
        self.mounts, self.after = self.after, []
        if self.spec.process is not None:
            self.after += console(self.spec.process, "$.process", binds_console=True)
        self._protected_paths()
        if self.spec.process is not None:
            self.after.append(op.MakeDirectory("$.process.cwd", self.spec.process.cwd.encode(), 0o755, 1))
        self.after += self.last
        propagation = self.linux.rootfs_propagation
        if propagation is not None:
            kind = {"private": f.MS_PRIVATE, "shared": f.MS_SHARED, "slave": f.MS_SLAVE, "unbindable": f.MS_UNBINDABLE}[
                str(propagation).removeprefix("r")]
            self.after.append(op.SetAttributesAt("$.linux.rootfsPropagation", b"/", 0, 0, kind, int(str(propagation).startswith("r"))))
        if self.spec.root.readonly:
            self.after.append(op.SetMountAttributes("$.root.readonly", root, f.MOUNT_ATTR_RDONLY, 0, 0, 0, "/"))
        return root

    def _mount(self, mount: Mount, json_path: str) -> None:
        options = parse_mount_options(mount.options)
        target = inside(mount.destination).encode()
        is_cgroup = mount.type in ("cgroup", "cgroup2")
        self._check(mount, options, json_path)
        if options.is_remount:
            self._remount(mount, options, target, json_path)
            return
        if options.is_bind or is_cgroup:
            refuse_unknown_options(options, mount.options, json_path)
        # what was mounted below is covered
        below = target.rstrip(b"/") + b"/"
        self.mounted = {path: mounted for path, mounted in self.mounted.items() if not path.startswith(below)}
        if options.is_bind:
            protects_late = bool(options.set & f.MOUNT_ATTR_RDONLY) and self._may_get_places(below)
            slot = self.binds.bind(mount, options, target, json_path, f.MOUNT_ATTR_RDONLY if protects_late else 0)
            if protects_late:
                self._protect(slot, json_path, target)
            self._attach(target, slot, json_path)
        elif is_cgroup:
            slot = self._mount_cgroups(mount, options, target, json_path)
        else:
            slot = self._mount_filesystem(mount, options, target, json_path)
        self.mounted[target] = _Mounted(slot, not options.is_bind and mount.type in _NEW_AT_EACH_MOUNT,
                                        is_cgroup and not options.is_bind and self.protects_cgroups)
        self._propagate(slot, options, json_path, target)

    def _may_get_places(self, below: bytes) -> bool:
        """Whether places may have to be made in a mount for what the configuration wants below it. What is bound out of the root would be a
        copy of the mount as it is by then, so who does that has the places there already."""
        if any(mount.source and source_inside_root(mount.source, self.bundle_path, self.rootfs_path) for mount in self.spec.mounts):
            return False
        paths = (*(mount.destination for mount in self.spec.mounts), *(device.path for device in self.linux.devices))
        return any(inside(path).encode().startswith(below) for path in paths)

    def _check(self, mount: Mount, options: MountOptions, json_path: str) -> None:
        """What does not go together. Raises InvalidBundleError, UnsupportedFieldError."""
        is_mapped = options.mapping is not None or bool(mount.uid_mappings)
        where = f"{json_path}.uidMappings" if options.mapping is None else f"{json_path}.options[{options.mapping}]"
        if is_mapped and options.is_remount:
            raise InvalidBundleError(None, where, "cannot be with 'remount': the ids of what is mounted already are not mapped again")
        if is_mapped and not options.is_bind and (self.in_user_namespace or mount.type in ("cgroup", "cgroup2")):
            raise UnsupportedFieldError(None, where, "needs a bind mount: the ids of cgroups, and of what is made in a user namespace, are not "
                                        "mapped")
        if options.copies_up is not None and (mount.type != "tmpfs" or options.is_bind or options.is_remount):
            raise InvalidBundleError(None, f"{json_path}.options[{options.copies_up}]", "'tmpcopyup' is for a new mount of type 'tmpfs' alone")

    def mount_at(self, target: str, index: int) -> None:
        """`mounts[index]` at another place, where there is no root yet. Raises InvalidBundleError."""
        source = self.spec.mounts[index].source
        if source is not None and source_inside_root(source, self.bundle_path, self.rootfs_path) is not None:
            raise InvalidBundleError(None, f"$.mounts[{index}].source", f"{source!r} is in the root file system, and not what a checkpoint "
                                     "needs of the host")
        self._mount(msgspec.structs.replace(self.spec.mounts[index], destination=target), f"$.mounts[{index}]")

    def mount_cgroup_at(self, target: str, cgroup: Cgroup, index: int) -> None:
        """One of the container's cgroups, as `mounts[index]` shows it."""
        json_path, place = f"$.mounts[{index}]", target.encode()
        options = parse_mount_options(self.spec.mounts[index].options)
        if self.protects_cgroups:
            options = options.read_only()
        slot = self.binds.copy(json_path, cgroup.path, options, f"{json_path}.options", place)
        self._attach(place, slot, json_path)

    def _mount_filesystem(self, mount: Mount, options: MountOptions, target: bytes, json_path: str) -> Slot:
        kind = mount.type or "none"
        slot = self.draft.init_slot()
        own = options.data if kind != "overlay" else [part for option in options.data for part in _split_layers(option, self.kernel)]
        data = [option.encode() for option in (*options.flags_to_set(), *own)]
        if mount.source:
            data.append(b"source=" + os.fsencode(mount.source))
        data += self._label_of(kind, options.data)
        attributes = _of_new_mount(options)
        # the file systems that are made for the container have to be filled first
        fills = kind == "tmpfs"
        if attributes & f.MOUNT_ATTR_RDONLY:
            if fills:
                attributes &= ~f.MOUNT_ATTR_RDONLY
                self._protect(slot, json_path, target)
            elif kind not in ("proc", "sysfs", "devpts", "mqueue"):
                data.append(b"ro")
        early = kind not in _WITHOUT_PATHS or (kind in _NEED_VISIBLE and self.in_user_namespace)
        if kind == "tmpfs" and not any(option.startswith("mode=") for option in options.data):
            self.after.append(op.NewTmpfs(json_path, target, tuple(data), slot, attributes))
        else:
            (self.before if early else self.after).append(
                op.NewFilesystem(json_path, kind.encode(), tuple(data), slot, attributes, target.decode()))
        if options.mapping is not None or mount.uid_mappings:
            namespace = self.mappings.namespace_of(mount, options.mapping, json_path)
            self.after.append(map_ids(mount, options, json_path, slot, namespace, target))
        if kind == "mqueue" and self.linux.mount_label:
            (self.before if early else self.after).append(
                op.LabelFilesystem("$.linux.mountLabel", self.linux.mount_label.encode(), slot, target.decode()))
        if options.copies_up is not None:
            self._copy_up(options, options.copies_up, target, slot, json_path)
        self._attach(target, slot, json_path, refuses_links=kind in _NEED_VISIBLE)
        if options.superblock.get("iversion"):
            self._count_versions(slot, options, json_path, target)
        return slot

    def _label_of(self, kind: str, options: tuple[str, ...] = ()) -> list[bytes]:
        """The option for the container's mountLabel, unless the mount has one of its own. The kernel labels what is in proc and sysfs;
        mqueue takes no option."""
        label = self.linux.mount_label
        if not label or kind in ("proc", "sysfs", "mqueue") or any(option.startswith("context=") for option in options):
            return []
        return [b"context=" + label.encode()]

    def _copy_up(self, options: MountOptions, index: int, target: bytes, slot: Slot, json_path: str) -> None:
        """What is there, with its owner unless another one is stated."""
        stated = {option.partition("=")[0] for option in options.data}
        owner = sum(bit for name, bit in (("uid", f.COPY_UP_UID), ("gid", f.COPY_UP_GID)) if name not in stated)
        self.after.append(op.CopyUp(f"{json_path}.options[{index}]", target, slot, owner | f.COPY_UP_CONTENTS))

    def _count_versions(self, slot: Slot, options: MountOptions, json_path: str, target: bytes) -> None:
        self.after.append(op.CountVersions(f"{json_path}.options", slot, f.MS_LAZYTIME if options.superblock.get("lazytime") else 0,
                                           target.decode()))

    def _remount(self, mount: Mount, options: MountOptions, target: bytes, json_path: str) -> None:
        """Change what is mounted there: what is not mentioned stays. What this configuration has mounted is known by its descriptor; the rest
        has to be looked up. The file system itself changes only if nobody else has it: another one may be the host's, too."""
        where = f"{json_path}.options"
        mounted = self.mounted.get(target)
        is_own = mounted is not None and mounted.is_own and not options.is_bind
        if not is_own:
            refuse_unknown_options(options, mount.options, json_path, "what is mounted there may be the host's as well"
                                   if not options.is_bind else "the mount alone is changed")
        elif mounted is not None and (options.data or options.superblock):
            flags = [name if is_set else {"sync": "async"}.get(name, f"no{name}") for name, is_set in options.superblock.items()
                     if name not in ("iversion", "dirsync")]
            if flags or options.data:
                data = tuple(option.encode() for option in (*flags, *options.data))
                self.after.append(op.ReconfigureFilesystem(where, data, mounted.slot, target.decode()))
            if options.superblock.get("iversion"):
                self._count_versions(mounted.slot, options, json_path, target)
        for set, clear, recursive in ((options.set, options.clear, 0), (options.recursive_set, options.recursive_clear, 1)):
            # read-only at the end: what is mounted below it later may have to be made a place
            late = f.MOUNT_ATTR_RDONLY
            if mounted is not None and mounted.stays_read_only:
                clear &= ~late
            for operations, mask in ((self.after, ~late), (self.last, late)):
                if set & mask or clear & mask:
                    operations.append(self._change(mounted, where, target, set & mask, clear & mask, 0, recursive))
        for propagation in options.propagations:
            self.after.append(self._change(mounted, where, target, 0, 0, propagation & ~f.MS_REC, int(bool(propagation & f.MS_REC))))

    def _change(self, mounted: _Mounted | None, json_path: str, target: bytes, set: int, clear: int, propagation: int,
                recursive: int) -> op.Operation:
        if mounted is None:
            return op.SetAttributesAt(json_path, target, set, clear, propagation, recursive)
        return op.SetMountAttributes(json_path, mounted.slot, set, clear, propagation, recursive, target.decode())

    def _mount_cgroups(self, mount: Mount, options: MountOptions, target: bytes, json_path: str) -> Slot:
        """The container's own cgroup, which is what a cgroup namespace would show: of v2, or of each hierarchy of v1."""
        if not self.cgroups:
            return self._hide_cgroups(options, target, json_path)
        is_v2 = mount.type == "cgroup2" or all(cgroup.is_v2 for cgroup in self.cgroups)
        shown = [cgroup for cgroup in self.cgroups if cgroup.is_v2 is is_v2]
        if not shown:
            raise UnsupportedFieldError(None, f"{json_path}.type", "this host has no v2 cgroup")
        if self.protects_cgroups:
            options = options.read_only()
        if is_v2:
            top = self.binds.copy(json_path, shown[0].path, options, f"{json_path}.options", target)
            self._attach(target, top, json_path)
            return top
        return self._mount_v1_cgroups(shown, options, target, json_path)

    def _hide_cgroups(self, options: MountOptions, target: bytes, json_path: str) -> Slot:
        """A container without a cgroup is in its caller's, which is none of its business."""
        slot = self.draft.init_slot()
        self.after.append(op.NewFilesystem(json_path, b"tmpfs", (b"nr_inodes=2", b"mode=555", b"source=tmpfs"), slot,
                                           _of_new_mount(options) | f.MOUNT_ATTR_RDONLY, target.decode()))
        self._attach(target, slot, json_path)
        return slot

    def _mount_v1_cgroups(self, cgroups: list[Cgroup], options: MountOptions, target: bytes, json_path: str) -> Slot:
        top = self.draft.init_slot()
        attributes = _of_new_mount(options)
        self.after.append(op.NewFilesystem(json_path, b"tmpfs", (b"mode=755", b"source=tmpfs", *self._label_of("tmpfs")), top,
                                           attributes & ~f.MOUNT_ATTR_RDONLY, target.decode()))
        self._attach(target, top, json_path)
        if attributes & f.MOUNT_ATTR_RDONLY:
            self._protect(top, json_path, target)
        for cgroup in cgroups:
            place = target + b"/" + cgroup.name.encode()
            copy = self.binds.copy(json_path, cgroup.path, options, f"{json_path}.options", place)
            self._attach(place, copy, json_path)
            if "," in cgroup.name:
                for controller in cgroup.name.split(","):
                    self.after.append(op.MakeLink(json_path, target + b"/" + controller.encode(), cgroup.name.encode(), 0))
        return top

    def _protect(self, slot: Slot, json_path: str, target: bytes) -> None:
        """Read-only, once it has been filled."""
        self.last.append(op.SetMountAttributes(f"{json_path}.options", slot, f.MOUNT_ATTR_RDONLY, 0, 0, 0, target.decode()))

    def _attach(self, target: bytes, slot: Slot, json_path: str, refuses_links: bool = False) -> None:
        self.after.append(op.AttachMount(f"{json_path}.destination", target, slot, int(refuses_links)))

    def _propagate(self, slot: Slot, options: MountOptions, json_path: str, target: bytes) -> None:
        for propagation in options.propagations:
            self.after.append(op.SetMountAttributes(f"{json_path}.options", slot, 0, 0, propagation & ~f.MS_REC,
                                                    int(bool(propagation & f.MS_REC)), target.decode()))

    def _devices(self) -> None:
        if not self.binds_dev:
            configured = {inside(device.path).encode() for device in self.linux.devices}
            for path, major, minor in _DEFAULT_DEVICES:
                if path not in configured:
                    self._device("", path, stat.S_IFCHR | 0o666, os.makedev(major, minor), 0, 0)
        for i, device in enumerate(self.linux.devices):
            # engines list all of the host's for a privileged container; what is made there is the link
            if self.binds_dev or inside(device.path) != "/dev/ptmx":
                self._configured_device(device, f"$.linux.devices[{i}]")
        if not self.binds_dev:
            for path, target in _DEFAULT_LINKS:
                self.after.append(op.MakeLink("", path, target, 0))
            self.after.append(op.MakeLink("", b"/dev/ptmx", b"pts/ptmx", 1))

    def _configured_device(self, device: Device, json_path: str) -> None:
        path = inside(device.path)
        number = 0 if device.type == "p" else os.makedev(device.major or 0, device.minor or 0)
        mode = _NODE_TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)
        demands = sum(bit for bit, value in ((f.NODE_HAS_MODE, device.file_mode), (f.NODE_HAS_UID, device.uid),
                                             (f.NODE_HAS_GID, device.gid)) if value is not None)
        if keeps_hosts_node(device, self.in_user_namespace):
            demands = 0
        if self._is_in_bound_dev(path):
            # nothing is made in a directory of the host's: it has to be there
            self.after.append(op.MakeNode(json_path, path.encode(), mode, number, device.uid or 0, device.gid or 0,
                                          demands | f.NODE_EXISTS))
        else:
            self._device(json_path, path.encode(), mode, number, device.uid or 0, device.gid or 0, demands)

    def _is_in_bound_dev(self, path: str) -> bool:
        if not self.binds_dev or not path.startswith("/dev/"):
            return False
        targets = [inside(mount.destination).rstrip("/") for mount in self.spec.mounts]
        # of several mounts above it the last one has it
        return [target for target in targets if path.startswith(f"{target}/")][-1] == "/dev"

    def _device(self, json_path: str, path: bytes, mode: int, number: int, uid: int, gid: int, demands: int = 0) -> None:
        if self.in_user_namespace and not stat.S_ISFIFO(mode):
            # no device can be made there: the host's is bound
            slot = self.draft.tree_slot()
            self.draft.trees.append(op.OpenTree(json_path, path, slot, 0, self.isolation, number, int(stat.S_ISBLK(mode))))
            self.after.append(op.AttachMount(json_path, path, slot, 0))
        else:
            self.after.append(op.MakeNode(json_path, path, mode, number, uid, gid, demands))

    def _protected_paths(self) -> None:
        for path, i in each_once(self.linux.readonly_paths).items():
            self.after.append(op.ProtectPath(f"$.linux.readonlyPaths[{i}]", path.encode()))
        masked = self.linux.masked_paths
        if masked:
            null, directory = self.draft.tree_slot(), self.draft.init_slot()
            # the host's node: what is at /dev/null in the container is the image's or a volume's affair
            self.draft.trees.append(op.OpenTree("$.linux.maskedPaths", b"/dev/null", null, 0, f.MS_SLAVE, _NULL))
            self.after.append(op.NewFilesystem("$.linux.maskedPaths", b"tmpfs", (b"nr_inodes=2", b"mode=755", *self._label_of("tmpfs")),
                                               directory, f.MOUNT_ATTR_RDONLY))
            for path, i in each_once(masked).items():
                self.after.append(op.MaskPath(f"$.linux.maskedPaths[{i}]", path.encode(), null, directory))
