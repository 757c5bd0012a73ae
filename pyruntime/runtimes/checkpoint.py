"""A checkpoint of a container: CRIU writes it, told of what is not the container's alone."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from pyruntime.cgroups import ContainerCgroups
from pyruntime.checkpoint import criu, rpc
from pyruntime.checkpoint.manifest import FILE, Manifest, SavedStream, write_manifest
from pyruntime.checkpoint.mounts import Surroundings, UnsavableMountError, external_keys, parse_mountinfo, save_mounts
from pyruntime.checkpoint.options import CgroupsMode, CheckpointOptions, Permissions, check_parent_path, permissions_of
from pyruntime.errors import CheckpointError, NotRunningError, UnsupportedFieldError, UnsupportedHostError
from pyruntime.host import Host
from pyruntime.interface import Status
from pyruntime.native import files
from pyruntime.native.encoder import EncodedPlan
from pyruntime.plan import flags
from pyruntime.plan.inside import inside, source_inside_root, with_destinations_inside
from pyruntime.plan.restore import cgroup_name
from pyruntime.runtimes.identity import is_alive
from pyruntime.spec import NamespaceType, Spec, load_bundle
from pyruntime.state import ContainerRecord, ProcessRecord

STEP = "checkpoint container"
LOG = "dump.log"
_NULL_DEVICE = os.makedev(1, 3)
# UNIX98 pseudoterminals (devices.txt of the kernel)
_PTS_MAJORS = range(136, 144)
# what CRIU leaves as it is, and who restores has to provide
EXTERNAL_NAMESPACES: dict[str, str] = {NamespaceType.NETWORK: "net", NamespaceType.PID: "pid"}
# what CRIU saves and restores into one that is joined
JOINED_NAMESPACES: dict[str, str] = {NamespaceType.IPC: "ipc", NamespaceType.UTS: "uts"}
# enum criu_cg_mode
_CGROUPS_MODES = {CgroupsMode.IGNORE: 0, CgroupsMode.SOFT: 3, CgroupsMode.FULL: 4, CgroupsMode.STRICT: 5}


def criu_fields(options: Permissions, cgroups_mode: CgroupsMode) -> dict[str, object]:
    """What a checkpoint and a restore say to CRIU alike."""
    return {**permissions_of(options), "orphan_pts_master": True, "manage_cgroups_mode": _CGROUPS_MODES[cgroups_mode]}


def checkpoint(record: ContainerRecord, status: Status, made: Iterable[ProcessRecord], image_path: str,
               options: CheckpointOptions | None, host: Host) -> None:
    """made: the exec processes on record. Raises NotRunningError, UnsupportedFieldError, CheckpointError; the container then goes on."""
    options = options or CheckpointOptions()
    if status not in (Status.RUNNING, Status.PAUSED):
        raise NotRunningError("checkpoint", record.id, status)
    if not record.cgroups:
        raise CheckpointError(STEP, 0, "the container has no cgroup", None)
    require_privileges(host)
    spec = _load(record)
    _refuse_processes(made)
    command = criu.plan()  # or it is not installed
    # before criu is asked for what it takes, which here or there is missing
    _check_parent(image_path, options.parent_path)
    for feature, is_needed in (("mem_track", options.pre_dump or options.parent_path), ("lazy_pages", options.lazy_pages)):
        if is_needed:
            criu.require_feature(feature, STEP)
    with criu.Directories(STEP, image_path, options.work_path, makes_images=True) as directories:
        try:
            _dump(record, spec, command, directories, options)
        except BaseException:
            directories.undo(kept=(LOG,))
            if status is Status.RUNNING:
                _thaw(record)
            raise


def require_privileges(host: Host) -> None:
    """Raises UnsupportedHostError."""
    if host.is_rootless:
        raise UnsupportedHostError("criu, which makes and restores checkpoints, needs to be run by root")
    if not host.hierarchies:
        raise UnsupportedHostError("only containers with cgroups have checkpoints, and here none are made")


def _load(record: ContainerRecord) -> Spec:
    spec = with_destinations_inside(load_bundle(record.bundle_path), record.rootfs_path)
    if not record.namespaces & flags.CLONE_NEWNS:
        raise UnsupportedFieldError(f"{record.bundle_path}/config.json", "$.linux.namespaces",
                                    "a container without a mount namespace cannot be in a checkpoint")
    if spec.linux.net_devices:
        raise UnsupportedFieldError(f"{record.bundle_path}/config.json", "$.linux.netDevices", "devices of the host cannot be in a checkpoint")
    for i, namespace in enumerate(spec.linux.namespaces):
        if namespace.type == NamespaceType.USER:
            # CRIU opens the images as the namespace's root, who may not
            raise UnsupportedFieldError(f"{record.bundle_path}/config.json", f"$.linux.namespaces[{i}]",
                                        "a container in a user namespace cannot be in a checkpoint in this version")
        if namespace.path and namespace.type not in (*EXTERNAL_NAMESPACES, *JOINED_NAMESPACES):
            raise UnsupportedFieldError(f"{record.bundle_path}/config.json", f"$.linux.namespaces[{i}].path",
                                        f"a {namespace.type} namespace that is joined cannot be in a checkpoint")
    return spec


def _refuse_processes(made: Iterable[ProcessRecord]) -> None:
    """They are no descendants of init, so CRIU would not see them and the kernel would end them with it."""
    for process in made:
        if process.exit_code is None and is_alive(process.pid, process.start_time):
            raise CheckpointError(STEP, 0, f"process {process.pid} was executed in the container besides its first one and still runs: "
                                  "it cannot be in a checkpoint", None)


def _check_parent(image_path: str, parent_path: str | None) -> None:
    if parent_path is None:
        return
    try:
        check_parent_path(image_path, parent_path)
    except ValueError as error:
        raise CheckpointError(STEP, 0, f"the earlier checkpoint {error}", None) from error


def _dump(record: ContainerRecord, spec: Spec, command: EncodedPlan, directories: criu.Directories, options: CheckpointOptions) -> None:
    cgroups_mode = options.cgroups_mode or _needed_mode(record)
    opts = {**criu.base_options(directories, LOG), **criu_fields(options, cgroups_mode), "pid": record.pid, "root": record.rootfs_path,
            "work_dir_fd": directories.work, "leave_running": options.leave_running, "link_remap": options.link_remap,
            "tcp_skip_in_flight": options.tcp_skip_in_flight}
    freezer = _freezer(record)
    if freezer is not None:
        opts["freeze_cgroup"] = freezer
    if options.parent_path is not None:
        opts.update(parent_img=options.parent_path, track_mem=True)
    if options.page_server is not None:
        opts["ps"] = {"address": options.page_server[0], "port": options.page_server[1]}
    external: list[str] = []
    if not options.pre_dump:
        try:
            manifest = _look_at(record, spec, external, cgroups_mode)
        except OSError as error:
            raise CheckpointError(STEP, error.errno or 0, f"look at the container: {error.filename}", None) from error
        opts["ext_mnt"] = external_keys(manifest.mounts)
        _write(directories, manifest)
    else:
        opts["track_mem"] = True
        _external_namespaces(record, spec, external)
    opts["external"] = external
    with criu.Criu(command, record.id) as running, criu.explained(directories, LOG, running):
        running.call(rpc.PRE_DUMP if options.pre_dump else rpc.DUMP, opts, on_notify=_notified(options.status_fd))


def _notified(status_fd: int | None) -> Callable[[str, int, Sequence[int]], None]:
    def on_notify(stage: str, pid: int, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        if stage == "status-ready" and status_fd is not None:
            # who waits for the byte may also wait for the end
            with contextlib.suppress(OSError):
                os.write(status_fd, b"\0")
                os.close(status_fd)
    return on_notify


def _write(directories: criu.Directories, manifest: Manifest) -> None:
    try:
        write_manifest(directories.images, manifest)
    except OSError as error:
        raise CheckpointError(STEP, error.errno or 0, f"write {os.path.join(directories.image_path, FILE)!r}", None) from error


def _freezer(record: ContainerRecord) -> str | None:
    """The cgroup by which all processes are stopped at once."""
    for cgroup in sorted(record.cgroups, key=lambda cgroup: cgroup.is_v2):
        if "freezer" in cgroup.controllers or cgroup.is_v2:
            return cgroup.path
    return None


def _needed_mode(record: ContainerRecord) -> CgroupsMode:
    """The container's own cgroups are not CRIU's affair. Those below it are, and for that it has to find every controller of the kernel
    mounted, or mount it."""
    has_nested = any(entry.is_dir(follow_symlinks=False) for cgroup in record.cgroups for entry in os.scandir(cgroup.path))
    return CgroupsMode.SOFT if has_nested else CgroupsMode.IGNORE


def _thaw(record: ContainerRecord) -> None:
    """CRIU does that itself, unless something has ended it."""
    cgroups = ContainerCgroups(record.cgroups)
    if cgroups.is_frozen():
        cgroups.thaw()


# what is not the container's alone


def _look_at(record: ContainerRecord, spec: Spec, external: list[str], cgroups_mode: CgroupsMode) -> Manifest:
    """external: what CRIU is told of streams and namespaces is added to it."""
    with open(f"/proc/{record.pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        entries = parse_mountinfo(file.read())
    with _opened_root(record.pid) as root:
        try:
            mounts = save_mounts(entries, _surroundings(record, spec, root))
        except UnsavableMountError as error:
            raise CheckpointError(STEP, 0, f"mount {error}", None) from error
    own = {entry.id for entry in entries}
    streams = [_look_at_stream(record.pid, number, own, external) for number in range(3)]
    namespaces = _external_namespaces(record, spec, external)
    bits = record.namespaces & ~(flags.CLONE_NEWTIME if not any(n.type == NamespaceType.TIME for n in spec.linux.namespaces) else 0)
    return Manifest(tuple(mounts), (streams[0], streams[1], streams[2]), _has_terminal(record.pid, own), namespaces, bits, cgroups_mode)


@contextlib.contextmanager
def _opened_root(pid: int) -> Iterator[int]:
    descriptor = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _surroundings(record: ContainerRecord, spec: Spec, root: int) -> Surroundings:
    bound: dict[int, int] = {}
    made: dict[int, int] = {}
    for i, mount in enumerate(spec.mounts):
        if "remount" in mount.options:  # of another one
            continue
        is_bound = not {"bind", "rbind"}.isdisjoint(mount.options)
        if is_bound and source_inside_root(mount.source or "", record.bundle_path, record.rootfs_path) is not None:
            raise CheckpointError(STEP, 0, f"mount {mount.destination!r} ($.mounts[{i}].source) is of what is mounted in the container, "
                                  "and CRIU is told of mounts of the host alone", None)
        with contextlib.suppress(OSError), _inside(root, inside(mount.destination)) as descriptor:
            # of several at one place the last one is on top
            (bound if is_bound else made)[_mount_id("self", descriptor)] = i
    cgroups = {}
    for cgroup in record.cgroups:
        device = os.stat(cgroup.path).st_dev
        cgroups[f"{os.major(device)}:{os.minor(device)}"] = (cgroup_name(cgroup), cgroup.path[cgroup.mount_length:])

    def node(path: str) -> tuple[tuple[int, int, int] | None, bool]:
        try:
            with _inside(root, path) as descriptor:
                status = os.fstat(descriptor)
        except OSError:  # it is below what something else is mounted on
            return None, True
        is_block = stat.S_ISBLK(status.st_mode)
        number = (os.major(status.st_rdev), os.minor(status.st_rdev), int(is_block)) if is_block or stat.S_ISCHR(status.st_mode) else None
        return number, stat.S_ISDIR(status.st_mode)

    return Surroundings(hosts_devices(), bound, made, cgroups, node)


def hosts_devices() -> frozenset[str]:
    """Of the file systems in the caller's mount namespace."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return frozenset(entry.device for entry in parse_mountinfo(file.read()))


@contextlib.contextmanager
def _inside(root: int, path: str) -> Iterator[int]:
    """Raises OSError."""
    descriptor = files.open_in_root(root, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mount_id(pid: int | str, descriptor: int) -> int:
    with open(f"/proc/{pid}/fdinfo/{descriptor}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _look_at_stream(pid: int, number: int, own_mounts: set[int], external: list[str]) -> SavedStream:
    path = f"/proc/{pid}/fd/{number}"
    try:
        link, status, mount = os.readlink(path), os.stat(path), _mount_id(pid, number)
    except FileNotFoundError:  # the program has closed it
        return SavedStream()
    if stat.S_ISFIFO(status.st_mode) and link.startswith("pipe:") or stat.S_ISSOCK(status.st_mode):
        return SavedStream(link)
    if mount in own_mounts or os.major(status.st_rdev) in _PTS_MAJORS:
        return SavedStream()
    key = f"file[{mount:x}:{status.st_ino:x}]"
    if key not in external:
        external.append(key)
    return SavedStream(key, stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE)


def _has_terminal(pid: int, own_mounts: set[int]) -> bool:
    """One of the container's own, whose other side was sent outside."""
    for number in range(3):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"/proc/{pid}/fd/{number}")
            if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTS_MAJORS and _mount_id(pid, number) in own_mounts:
                return True
    return False


def _external_namespaces(record: ContainerRecord, spec: Spec, external: list[str]) -> dict[str, str]:
    found = {}
    for i, namespace in enumerate(spec.linux.namespaces):
        if namespace.path and namespace.type in EXTERNAL_NAMESPACES:
            name = EXTERNAL_NAMESPACES[namespace.type]
            inode = os.stat(f"/proc/{record.pid}/ns/{name}").st_ino
            found[str(namespace.type)] = f"namespace-{i}"
            external.append(f"{name}[{inode}]:namespace-{i}")
    return found
