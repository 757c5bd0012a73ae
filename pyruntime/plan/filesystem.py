"""Root, mounts, devices and protected paths of a container."""

from __future__ import annotations

import os
import posixpath
import stat

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags as f
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.mount_options import MountOptions, parse_mount_options
from pyruntime.plan.operations import Slot
from pyruntime.spec import Mount, Spec

# config-linux.md, "Default Devices"; ptmx is a link, console is bound where there is a terminal
_DEFAULT_DEVICES = ((b"/dev/null", 1, 3), (b"/dev/zero", 1, 5), (b"/dev/full", 1, 7), (b"/dev/random", 1, 8),
                    (b"/dev/urandom", 1, 9), (b"/dev/tty", 5, 0))
_DEFAULT_LINKS = ((b"/dev/fd", b"/proc/self/fd"), (b"/dev/stdin", b"/proc/self/fd/0"),
                  (b"/dev/stdout", b"/proc/self/fd/1"), (b"/dev/stderr", b"/proc/self/fd/2"))
_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# file systems that the kernel lets a user namespace mount only where one of the kind is visible, so before the change of root
_NEED_VISIBLE = ("proc", "sysfs")
_NULL = os.makedev(1, 3)


class FilesystemCompiler:
    """Collects what goes before and after the change of root, so that `compile` can put namespaces between."""

    def __init__(self, draft: Draft, spec: Spec, bundle_path: str, rootfs_path: str, cgroups: tuple[Cgroup, ...],
                 in_user_namespace: bool) -> None:
        self.draft = draft
        self.spec = spec
        self.bundle_path = bundle_path
        self.rootfs_path = rootfs_path
        self.cgroups = cgroups
        self.in_user_namespace = in_user_namespace
        self.before: list[op.Operation] = []
        self.after: list[op.Operation] = []
        self.last: list[op.Operation] = []
        linux = spec.linux
        self.linux = linux
        # by default nothing of the container's reaches the host, and mounts of the host still reach the container
        self.isolation = {"private": f.MS_PRIVATE, "rprivate": f.MS_PRIVATE, "shared": 0, "rshared": 0}.get(
            linux.rootfs_propagation or "rslave", f.MS_SLAVE)

    def compile(self) -> Slot:
        """Fill the lists; return the slot of the root."""
        root = self.draft.source_slot()
        # pivot_root refuses a shared root; it becomes shared afterwards
        self.draft.sources.append(op.OpenTree("$.root.path", os.fsencode(self.rootfs_path), root, 1, self.isolation or f.MS_SLAVE))
        for i, mount in enumerate(self.spec.mounts):
            self._mount(mount, f"$.mounts[{i}]")
        self._devices()
        self._protected_paths()
        if self.spec.process is not None:
            self.after.append(op.MakeDirectory("$.process.cwd", self.spec.process.cwd.encode(), 0o755, 1))
        self.after += self.last
        propagation = self.linux.rootfs_propagation
        if propagation is not None:
            kind = {"private": f.MS_PRIVATE, "shared": f.MS_SHARED, "slave": f.MS_SLAVE, "unbindable": f.MS_UNBINDABLE}[
                str(propagation).removeprefix("r")]
            self.after.append(op.SetPropagation("$.linux.rootfsPropagation", b"/", kind, int(str(propagation).startswith("r"))))
        if self.spec.root.readonly:
            self.after.append(op.SetMountAttributes("$.root.readonly", root, f.MOUNT_ATTR_RDONLY, 0, 0, 0))
        return root

    def _mount(self, mount: Mount, json_path: str) -> None:
        if mount.uid_mappings or mount.gid_mappings:
            raise UnsupportedFieldError(None, f"{json_path}.uidMappings", "id-mapped mounts are not executed yet")
        options = parse_mount_options(mount.options, json_path)
        target = posixpath.normpath("/" + mount.destination.lstrip("/")).encode()
        if options.is_bind:
            self._bind(mount, options, target, json_path)
        elif mount.type in ("cgroup", "cgroup2"):
            self._mount_cgroups(options, target, json_path)
        else:
            self._mount_filesystem(mount, options, target, json_path)

    def _bind(self, mount: Mount, options: MountOptions, target: bytes, json_path: str) -> None:
        source = os.path.join(self.bundle_path, mount.source or "")
        slot = self._copy_host_tree(f"{json_path}.source", source, options, f"{json_path}.options")
        self._attach(target, slot, json_path)
        self._propagate(slot, options, json_path)

    def _copy_host_tree(self, json_path: str, source: str, options: MountOptions, options_path: str) -> Slot:
        slot = self.draft.source_slot()
        attributes = options.set or options.clear
        # of a single mount all can be set at once
        later = self.isolation if attributes and not options.recursive_bind else 0
        self.draft.sources.append(op.OpenTree(json_path, os.fsencode(source), slot, int(options.recursive_bind),
                                           0 if later else self.isolation))
        if attributes:
            self.draft.sources.append(op.SetMountAttributes(options_path, slot, options.set, options.clear, later, 0))
        if options.recursive_set or options.recursive_clear:
            self.draft.sources.append(op.SetMountAttributes(options_path, slot, options.recursive_set, options.recursive_clear,
                                                         0, 1))
        return slot

    def _mount_filesystem(self, mount: Mount, options: MountOptions, target: bytes, json_path: str) -> None:
        kind = mount.type or "none"
        slot = self.draft.init_slot()
        data = [option.encode() for option in options.data]
        if mount.source:
            data.append(b"source=" + os.fsencode(mount.source))
        attributes = options.set | options.recursive_set
        # the file systems that are made for the container have to be filled first
        fills = kind == "tmpfs"
        if attributes & f.MOUNT_ATTR_RDONLY:
            if fills:
                attributes &= ~f.MOUNT_ATTR_RDONLY
                self.last.append(op.SetMountAttributes(f"{json_path}.options", slot, f.MOUNT_ATTR_RDONLY, 0, 0, 0))
            elif kind not in ("proc", "sysfs", "devpts", "mqueue"):
                data.append(b"ro")
        new = op.NewFilesystem(json_path, kind.encode(), tuple(data), slot, attributes)
        early = kind in _NEED_VISIBLE and self.in_user_namespace
        (self.before if early else self.after).append(new)
        self._attach(target, slot, json_path, refuses_links=kind in _NEED_VISIBLE)
        self._propagate(slot, options, json_path)

    def _mount_cgroups(self, options: MountOptions, target: bytes, json_path: str) -> None:
        """The container's own cgroup of each hierarchy, which is what a cgroup namespace would show."""
        unified = all(cgroup.is_v2 for cgroup in self.cgroups)
        if not unified:
            slot = self.draft.init_slot()
            attributes = options.set & ~f.MOUNT_ATTR_RDONLY
            self.after.append(op.NewFilesystem(json_path, b"tmpfs", (b"mode=755", b"source=tmpfs"), slot, attributes))
            self._attach(target, slot, json_path)
            if options.set & f.MOUNT_ATTR_RDONLY:
                self.last.append(op.SetMountAttributes(f"{json_path}.options", slot, f.MOUNT_ATTR_RDONLY, 0, 0, 0))
        for cgroup in self.cgroups:
            if cgroup.is_v2 and not unified:
                continue
            copy = self._copy_host_tree(json_path, cgroup.path, options, f"{json_path}.options")
            place = target if unified else target + b"/" + cgroup.name.encode()
            self._attach(place, copy, json_path)
            if "," in cgroup.name:
                for controller in cgroup.name.split(","):
                    self.after.append(op.MakeLink(json_path, target + b"/" + controller.encode(), cgroup.name.encode(), 0))

    def _attach(self, target: bytes, slot: Slot, json_path: str, refuses_links: bool = False) -> None:
        self.after.append(op.AttachMount(f"{json_path}.destination", target, slot, int(refuses_links)))

    def _propagate(self, slot: Slot, options: MountOptions, json_path: str) -> None:
        for propagation in options.propagations:
            self.after.append(op.SetMountAttributes(f"{json_path}.options", slot, 0, 0, propagation & ~f.MS_REC,
                                                    int(bool(propagation & f.MS_REC))))

    def _devices(self) -> None:
        if any(posixpath.normpath("/" + mount.destination.lstrip("/")) == "/dev"
               and {"bind", "rbind"} & set(mount.options) for mount in self.spec.mounts):
            return  # the host's or an engine's /dev: what is in it is their choice
        configured = {device.path.encode() for device in self.linux.devices or ()}
        for path, major, minor in _DEFAULT_DEVICES:
            if path not in configured:
                self._device("", path, stat.S_IFCHR | 0o666, os.makedev(major, minor), 0, 0)
        for i, device in enumerate(self.linux.devices):
            json_path = f"$.linux.devices[{i}]"
            number = 0 if device.type == "p" else os.makedev(device.major or 0, device.minor or 0)
            mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
            self._device(json_path, posixpath.normpath(device.path).encode(), _NODE_TYPES[device.type] | mode, number,
                         device.uid or 0, device.gid or 0)
        for path, target in _DEFAULT_LINKS:
            self.after.append(op.MakeLink("", path, target, 0))
        self.after.append(op.MakeLink("", b"/dev/ptmx", b"pts/ptmx", 1))

    def _device(self, json_path: str, path: bytes, mode: int, number: int, uid: int, gid: int) -> None:
        if self.in_user_namespace and not stat.S_ISFIFO(mode):
            # no device can be made there: the host's is bound
            slot = self.draft.source_slot()
            self.draft.sources.append(op.OpenTree(json_path, path, slot, 0, self.isolation, number, int(stat.S_ISBLK(mode))))
            self.after.append(op.AttachMount(json_path, path, slot, 0))
        else:
            self.after.append(op.MakeNode(json_path, path, mode, number, uid, gid))

    def _protected_paths(self) -> None:
        for i, path in enumerate(self.linux.readonly_paths):
            self.after.append(op.ProtectPath(f"$.linux.readonlyPaths[{i}]", path.encode()))
        masked = self.linux.masked_paths
        if masked:
            null, directory = self.draft.source_slot(), self.draft.init_slot()
            # the host's node: what is at /dev/null in the container is the image's or a volume's affair
            self.draft.sources.append(op.OpenTree("$.linux.maskedPaths", b"/dev/null", null, 0, f.MS_SLAVE, _NULL))
            self.after.append(op.NewFilesystem("$.linux.maskedPaths", b"tmpfs", (b"nr_inodes=2", b"mode=755"), directory,
                                               f.MOUNT_ATTR_RDONLY))
            for i, path in enumerate(masked):
                self.after.append(op.MaskPath(f"$.linux.maskedPaths[{i}]", path.encode(), null, directory))
