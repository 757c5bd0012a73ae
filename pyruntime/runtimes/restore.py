"""A container from a checkpoint: its cgroups, mounts and streams are made as for a new one, and CRIU puts its processes into them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pyruntime.cgroups import Cgroup, cgroups_of
from pyruntime.checkpoint import criu, rpc
from pyruntime.checkpoint.manifest import FILE, Manifest, read_manifest
from pyruntime.checkpoint.mounts import (
    MountEntry,
    Origin,
    SavedMount,
    differences,
    expected_mounts,
    external_mounts,
    locate,
    parse_mountinfo,
)
from pyruntime.checkpoint.options import CgroupsMode, RestoreOptions
from pyruntime.errors import CheckpointError, InvalidBundleError, SetupError, UnsupportedFieldError
from pyruntime.interface import StdioOptions
from pyruntime.native import files
from pyruntime.native import process as native
from pyruntime.plan import flags
from pyruntime.plan.compile import Manner, namespace_bits
from pyruntime.plan.restore import ROOT, Sources, cgroup_name, cgroup_place, device_place, mount_place
from pyruntime.runtimes.checkpoint import EXTERNAL_NAMESPACES, JOINED_NAMESPACES, criu_fields, hosts_devices, require_privileges
from pyruntime.runtimes.creation import Creation
from pyruntime.runtimes.hooks import run_hooks
from pyruntime.runtimes.live import LiveProcess
from pyruntime.runtimes.reaper import children_of_this_process
from pyruntime.runtimes.stdio import PreparedStdio, open_null
from pyruntime.runtimes.unit import started_unit
from pyruntime.spec import NamespaceType
from pyruntime.state import ContainerRecord
from pyruntime.state.record import ResctrlRecord

STEP = "restore container"
LOG = "restore.log"


class Restoration(Creation):
    """What has been made so far of a container that is restored."""

    _resctrl: ResctrlRecord | msgspec.UnsetType = msgspec.UNSET
    _criu_start_time: int | None = None

    def restore(self, image_path: str, stdio_options: StdioOptions, options: RestoreOptions | None) -> tuple[LiveProcess, ContainerRecord]:
        """Raises InvalidBundleError, CheckpointError, SetupError; `undo` then takes back what was made."""
        options = options or RestoreOptions()
        require_privileges(self._host)
        with criu.Directories(STEP, image_path, options.work_path, makes_images=False) as directories, contextlib.ExitStack() as held:
            try:
                manifest = _read(directories)
                self._check(manifest)
                stdio = PreparedStdio(stdio_options)
                held.callback(stdio.close)
                return self._run(directories, manifest, stdio, stdio_options, options, held)
            except BaseException:
                directories.undo(kept=(LOG,))
                raise

    def _check(self, manifest: Manifest) -> None:
        """That the bundle is one that the checkpoint can have been made of."""
        spec, file = self._compiled.bundle.spec, self._compiled.bundle.config_file
        for i, namespace in enumerate(spec.linux.namespaces):
            if namespace.type == NamespaceType.USER:
                raise UnsupportedFieldError(file, f"$.linux.namespaces[{i}]", "no container is restored into a user namespace in this version")
            if namespace.path and namespace.type not in (*EXTERNAL_NAMESPACES, *JOINED_NAMESPACES):
                raise UnsupportedFieldError(file, f"$.linux.namespaces[{i}].path", f"none is restored into a {namespace.type} namespace")
            if namespace.type in EXTERNAL_NAMESPACES and bool(namespace.path) != (str(namespace.type) in manifest.namespaces):
                was = "one that was joined" if str(namespace.type) in manifest.namespaces else "one of its own"
                raise InvalidBundleError(file, f"$.linux.namespaces[{i}]", f"the container of the checkpoint had {was} of that type")
        if namespace_bits(spec) & ~flags.CLONE_NEWTIME != manifest.namespace_bits & ~flags.CLONE_NEWTIME:
            raise InvalidBundleError(file, "$.linux.namespaces", "are not those that the container of the checkpoint had")
        if spec.process is not None and spec.process.terminal != manifest.has_terminal:
            has = "had a terminal" if manifest.has_terminal else "had no terminal"
            raise InvalidBundleError(file, "$.process.terminal", f"the container of the checkpoint {has}")

    def _run(self, directories: criu.Directories, manifest: Manifest, stdio: PreparedStdio, stdio_options: StdioOptions,
             options: RestoreOptions, held: contextlib.ExitStack) -> tuple[LiveProcess, ContainerRecord]:
        id, compiled = self._id, self._compiled
        cgroups_mode = options.cgroups_mode or manifest.cgroups_mode
        null = open_null()
        descriptors = [*stdio.child, null]
        inherited = _streams(manifest, stdio_options)
        inherited += self._namespaces(manifest, descriptors, held)
        encoded = compiled.restore_plan(id, self._store.root, _sources(manifest.mounts), criu.command(directories.work_path),
                                        1 + len(descriptors), cgroups_mode is CgroupsMode.IGNORE)
        path, unit = compiled.cgroup_path(id), compiled.unit(id)
        assert path is not None  # with privileges there is always one
        with started_unit(unit, lambda pids: compiled.unit_properties(id, pids), compiled.unit_json_paths()):
            self._unit_name = unit.name if unit is not None else None
            self._store.save_cgroup(id, path, self._unit_name)
            self._cgroup_path = path
            self._resctrl = self._make_groups()
            running = held.enter_context(criu.Criu(encoded, id, descriptors, stdio.child if options.shell_job else None))
            # before, the cgroups may have been those that somebody is in
            self.ends_everything = True
            self._criu_start_time = native.start_time(running.pid)
            stdio.close_child_ends()
        restored = _Restored(self)
        opts = {**criu.base_options(directories, LOG), **criu_fields(options, cgroups_mode), "rst_sibling": True, "evasive_devices": True,
                "root": f"{self._directory}/{ROOT}", "inherit_fd": inherited,
                "ext_mnt": [{"key": mount.key, "val": self._place(mount.origin)} for mount in external_mounts(manifest.mounts)],
                "cg_root": _cgroup_roots(cgroups_of(self._host, path), path),
                "join_ns": [{"key": JOINED_NAMESPACES[n.type], "val": n.path} for n in compiled.bundle.spec.linux.namespaces
                            if n.path and n.type in JOINED_NAMESPACES]}
        opts.update({name: value for name in ("lsm_profile", "lsm_mount_context") if (value := getattr(options, name)) is not None})
        try:
            with criu.explained(directories, LOG, running):
                restored.expected = self._expected(manifest.mounts, running.pid)
                running.call(rpc.RESTORE, opts, on_notify=restored.on_notify)
            live = restored.take(stdio)
        except BaseException:
            restored.discard()
            raise
        self._live = live
        self._store.commit(id)
        return live, self._noted()

    @property
    def _directory(self) -> str:
        return self._store.directory(self._id)

    def _place(self, origin: Origin | None) -> str:
        assert origin is not None  # what has a key has an origin
        return f"{self._directory}/{_place_of(origin)}{origin.below}"

    def _namespaces(self, manifest: Manifest, descriptors: list[int], held: contextlib.ExitStack) -> list[dict[str, object]]:
        """Those that are joined, by the keys that the images have."""
        found: list[dict[str, object]] = []
        for i, namespace in enumerate(self._compiled.bundle.spec.linux.namespaces):
            key = manifest.namespaces.get(str(namespace.type))
            if namespace.path and key is not None:
                try:
                    descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as error:
                    raise SetupError("open namespace", namespace.path, error.errno or 0, f"$.linux.namespaces[{i}].path") from error
                held.callback(os.close, descriptor)
                found.append({"key": key, "fd": criu.WIRE + 1 + len(descriptors)})
                descriptors.append(descriptor)
        return found

    def _expected(self, saved: Sequence[SavedMount], pid: int) -> list[SavedMount]:
        """What the mounts have to be, by what has been prepared for them in criu's mount namespace."""
        try:
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                entries = parse_mountinfo(file.read())
        except OSError as error:
            raise rpc.Refused(0, "criu has ended") from error
        prepared: dict[str, MountEntry] = {"": locate(entries, f"{self._directory}/{ROOT}")}
        for mount in saved:
            if mount.key is not None:
                prepared[mount.key] = locate(entries, self._place(mount.origin))
        return expected_mounts(saved, prepared)

    def undo(self) -> None:
        """Also what CRIU has killed before it told of it."""
        super().undo()
        if self._criu_start_time is not None:
            _reap_restored(self._criu_start_time)

    def run_create_hooks(self, pid: int) -> None:
        """As the host's part of them is run for a new container."""
        hooks = self._compiled.bundle.spec.hooks
        self.note(pid)
        if hooks.prestart or hooks.create_runtime:
            self._has_run_hooks = True
            run_hooks(hooks, ("prestart", "createRuntime"), self._noted(), "creating")

    def note(self, pid: int) -> None:
        """Prepare the record."""
        record = self._compiled.record(self._id, pid, native.start_time(pid), None, Manner(keeps_keyring=True), self._resctrl)
        # CRIU restores the clocks in a time namespace
        if os.stat(f"/proc/{pid}/ns/time").st_ino != os.stat("/proc/thread-self/ns/time").st_ino:
            record = msgspec.structs.replace(record, namespaces=record.namespaces | flags.CLONE_NEWTIME)
        self._record = record
        self._store.prepare(record)


class _Restored:
    """The container's init while CRIU is at work."""

    def __init__(self, restoration: Restoration) -> None:
        self._restoration = restoration
        self.expected: Sequence[SavedMount] = ()
        self._pid = 0
        self._pidfd = self._console = -1

    def on_notify(self, stage: str, pid: int, descriptors: Sequence[int]) -> None:
        if stage == "orphan-pts-master" and descriptors and self._console < 0:
            self._console, *descriptors = descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        if pid and self._pidfd < 0:
            # a sibling of criu, so that it is this process's child
            self._pid, self._pidfd = pid, os.pidfd_open(pid)
        if stage == "setup-namespaces":
            self._restoration.run_create_hooks(pid)
        elif stage == "post-restore":
            self._check_mounts(pid)
            self._restoration.note(pid)

    def _check_mounts(self, pid: int) -> None:
        """Before any process of the container runs."""
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            found = parse_mountinfo(file.read())
        wrong = differences(self.expected, found, hosts_devices())
        if wrong:
            raise CheckpointError(STEP, 0, "the restored mounts are not those of the checkpoint: " + ", ".join(wrong), None)

    def take(self, stdio: PreparedStdio) -> LiveProcess:
        """Raises CheckpointError if CRIU has not told of it."""
        if self._pidfd < 0:
            raise CheckpointError(STEP, 0, "criu has not told which process it has restored", None)
        pipes = stdio.take_pipes(self._console)
        self._console = -1
        live = LiveProcess(self._pid, native.start_time(self._pid), self._pidfd, pipes)
        self._pidfd = -1
        return live

    def discard(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                native.send_signal(self._pidfd, 9)
            native.wait_until_ended(self._pidfd)
            native.reap(self._pidfd)
            os.close(self._pidfd)
        if self._console >= 0:
            os.close(self._console)


def _reap_restored(criu_start_time: int) -> None:
    """What criu has cloned as its sibling is a child of this process, also if it ended before criu could tell of it. It is told from
    other children by its name, and since like criu it sends no signal when it ends (proc_pid_stat(5), field 38)."""
    for pid in children_of_this_process():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = files.read(f"/proc/{pid}/stat").rpartition(b") ")
            fields = rest.split()
            if name.endswith(b"(criu") and fields[0] == b"Z" and fields[35] == b"0" and int(fields[19]) >= criu_start_time:
                pidfd = os.pidfd_open(pid)
                native.reap(pidfd)
                os.close(pidfd)


def _read(directories: criu.Directories) -> Manifest:
    try:
        return read_manifest(directories.images)
    except FileNotFoundError as error:
        raise CheckpointError(STEP, error.errno or 0, f"{directories.image_path!r} is no checkpoint of pyruntime: {FILE}", None) from error
    except OSError as error:
        raise CheckpointError(STEP, error.errno or 0, f"read {os.path.join(directories.image_path, FILE)!r}", None) from error
    except ValueError as error:
        raise CheckpointError(STEP, 0, f"{os.path.join(directories.image_path, FILE)!r} is damaged: {error}", None) from error


def _streams(manifest: Manifest, options: StdioOptions) -> list[dict[str, object]]:
    """By which descriptor of criu's each stream of the checkpoint is replaced. Of several that were one, the first one counts."""
    found: dict[str, int] = {}
    for number, (stream, name) in enumerate(zip(manifest.streams, ("in", "out", "err"), strict=True)):
        is_piped = getattr(options, f"create_{name}") and not manifest.has_terminal
        if is_piped and (stream.key is None or stream.is_null):
            what = "was the null device" if stream.is_null else "is a file of its own"
            raise SetupError(f"connect {name}", None, 0, None, f"that stream of the container {what} when the checkpoint was made")
        if stream.key is not None:
            found.setdefault(stream.key, criu.WIRE + 1 + (3 if stream.is_null else number))
    return [{"key": key, "fd": descriptor} for key, descriptor in found.items()]


def _sources(mounts: Sequence[SavedMount]) -> Sources:
    origins = [mount.origin for mount in mounts if mount.origin is not None]
    return Sources(frozenset(origin.mount for origin in origins if origin.mount is not None),
                   frozenset(origin.cgroup for origin in origins if origin.cgroup is not None),
                   frozenset(origin.device for origin in origins if origin.device is not None),
                   tuple((mount.mount_point, not mount.is_file) for mount in mounts if mount.in_root and mount.mount_point != "/"))


def _place_of(origin: Origin) -> str:
    if origin.mount is not None:
        return mount_place(origin.mount)
    if origin.cgroup is not None:
        return cgroup_place(origin.cgroup)
    return device_place(origin.device) if origin.device is not None else ROOT


def _cgroup_roots(cgroups: Iterable[Cgroup], path: str) -> list[Mapping[str, str]]:
    """CRIU puts what was in or below the container's cgroups into and below these."""
    return [{"ctrl": name, "path": path} for cgroup in cgroups for name in (cgroup_name(cgroup).split(",") if not cgroup.is_v2 else [""])]
