"""Bundles and the plans that were made of them, kept for the next container of the same bundle."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from pyruntime import errors
from pyruntime.cgroups import Unit, cgroups_of
from pyruntime.cgroups.systemd import PROPERTY_ANNOTATION, Property
from pyruntime.host import Host, read_drivers
from pyruntime.interface import ProcessLike
from pyruntime.native.encoder import EncodedPlan, encode
from pyruntime.notices import log as _log
from pyruntime.plan import flags
from pyruntime.plan.compile import Manner, Place, cgroup_path_for, compile, compile_exec, namespace_bits, unit_for
from pyruntime.plan.device_rules import device_rules
from pyruntime.plan.hooks import later_hooks
from pyruntime.plan.id_maps import denies_setgroups, first_ids_of, keeps_groups
from pyruntime.plan.resources import limits_memory, limits_pids
from pyruntime.plan.seccomp import Filter, FilterSource, filter_flags, filter_source, notifies, notifies_of
from pyruntime.plan.warnings import filter_warnings, process_warnings, warnings_of
from pyruntime.runtimes.bundle import OpenedBundle, check_rootfs
from pyruntime.runtimes.filters import FilterCache
from pyruntime.spec import Process, Seccomp, Spec, decode_process, read_config
from pyruntime.state import ContainerRecord
from pyruntime.state.front import front_of, state_document
from pyruntime.state.record import FilterRecord, Inherited, JoinedMountNamespace, ResctrlRecord

if TYPE_CHECKING:
    from pyruntime.native.seccomp import Compiled
    from pyruntime.plan.intel_rdt import ResctrlGroup
    from pyruntime.plan.operations import ExecuteProgram, Plan
    from pyruntime.plan.restore import Sources
    from pyruntime.plan.unit_annotations import Stated

BUNDLES_KEPT = 64
PROCESSES_KEPT = 16
# of `process`, besides capabilities and apparmorProfile
INHERITED_FIELDS = ("rlimits", "scheduler", "io_priority", "exec_cpu_affinity", "selinux_label")


class CompiledBundle:
    """A bundle with its plans.

    warnings   what is not as the configuration says, which the specification wants told and not refused
    filter     what is remembered of the filter of system calls
    make_filter  makes or finds its program
    """

    def __init__(self, bundle: OpenedBundle, host: Host, units: str | None, make_filter: Callable[[FilterSource], Compiled]) -> None:
        self.bundle = bundle
        self._units = units
        self._later_hooks = later_hooks(bundle.spec.hooks)
        self._inherited = inherited_of(bundle.spec)
        self._host = host
        self._filter: Filter | None = None
        self.filter: FilterRecord | None = None
        unknown: tuple[str, ...] = ()
        seccomp = bundle.spec.linux.seccomp
        # without a process there is nothing to filter
        if seccomp is not None and bundle.spec.process is not None:
            with self._in_file():
                compiled = make_filter(filter_source(seccomp))
                self._filter = Filter(compiled.program, filter_flags(seccomp, host), notifies_of(seccomp, "sendmsg"))
            _log.debug("seccomp filter flags: %d", self._filter.flags)
            unknown = compiled.unknown
            self.filter = record_of(self._filter, seccomp)
        self._stated: tuple[Stated, ...] = ()
        left_out: tuple[str, ...] = ()
        # they are nothing where systemd is not asked
        if units is not None and any(key.startswith(PROPERTY_ANNOTATION) for key in bundle.spec.annotations):
            from pyruntime.plan.unit_annotations import stated_properties

            with self._in_file():
                self._stated, left_out = stated_properties(bundle.spec.annotations, bundle.spec.linux.resources, host.is_unified)
        self.warnings = (*warnings_of(bundle.spec, host), *filter_warnings(unknown), *left_out)
        self._plans: dict[tuple[str, str, Manner], EncodedPlan] = {}

    def told_warnings(self) -> tuple[str, ...]:
        """As they are logged."""
        return tuple(f"{self.bundle.config_file}: {warning}" for warning in self.warnings)

    def cgroup_path(self, id: str) -> str | None:
        """Of a container's cgroup, from the hierarchies' roots; None where it has none. Raises InvalidBundleError."""
        with self._in_file():
            return cgroup_path_for(self.bundle.spec, id, self._host, self._units)

    def unit(self, id: str) -> Unit | None:
        """The systemd unit of a container; None where it has none. Raises InvalidBundleError."""
        if self._units is None:
            return None
        with self._in_file():
            return unit_for(self.bundle.spec, id, self._host)

    def resctrl_group(self, id: str) -> ResctrlGroup | None:
        """Of a container; None where it has none. Raises UnsupportedFieldError."""
        rdt = self.bundle.spec.linux.intel_rdt
        if rdt is None:
            return None
        from pyruntime.plan.intel_rdt import group_of  # few need it

        with self._in_file():
            return group_of(rdt, self._host, id)

    def unit_properties(self, id: str, pids: tuple[int, ...]) -> list[Property]:
        """What the container's unit is started with, and these processes. Raises InvalidBundleError."""
        # only where systemd is asked
        from pyruntime.plan.unit_properties import device_properties, unit_properties, with_room_for_init

        resources = self.bundle.spec.linux.resources
        # a user's manager has no say about devices, as the user has none
        devices = None if self._host.is_rootless else device_rules(resources.devices if resources is not None else None)
        # of one name the last; an array that systemd is told twice it joins
        return list(dict((*unit_properties(unit_for(self.bundle.spec, id, self._host), id, pids),
                          *(device_properties(devices, read_drivers()) if devices is not None else ()),
                          *with_room_for_init(self._asked_properties()))).items())

    def late_unit_properties(self) -> list[Property]:
        """What the unit gets when the container's init is its only process."""
        from pyruntime.plan.unit_properties import without_room_for_init

        return without_room_for_init(self._asked_properties())

    def unit_json_paths(self) -> dict[str, str]:
        """Of the unit's properties that annotations state, by name."""
        return {each.property[0]: each.json_path for each in self._stated}

    def _asked_properties(self) -> list[Property]:
        """What config.json says of the unit."""
        from pyruntime.plan.unit_properties import resource_properties

        resources = self.bundle.spec.linux.resources
        return [*(each.property for each in self._stated),
                *(resource_properties(resources, self._host.is_unified) if resources is not None else ())]

    def plan(self, id: str, root: str, manner: Manner) -> EncodedPlan:
        """The plan for a container with a state directory below `root`; compiled once for all ids of one length.

        Raises InvalidBundleError, UnsupportedFieldError.
        """
        # an id with a plus is another one in the name of a unit
        hole = id if self._units is not None and "+" in id else "\0" * len(id)
        key = (hole, root, manner)
        encoded = self._plans.get(key)
        if encoded is None:
            encoded = self._plans[key] = encode(self.compile(hole, root, manner), len(id))
        return encoded

    def compile(self, id: str, root: str, manner: Manner) -> Plan:
        """The plan for that container alone. Raises as `plan`."""
        place = Place(id, self.bundle.path, self.bundle.rootfs_path, f"{root}/{id}", self._units)
        with self._in_file():
            return compile(self.bundle.spec, self._host, place, manner, self._filter)

    def restore_plan(self, id: str, root: str, sources: Sources, criu: ExecuteProgram, given_fds: int,
                     inherits_cgroups: bool) -> EncodedPlan:
        """See plan.restore. Raises InvalidBundleError."""
        from pyruntime.plan.restore import compile_restore

        place = Place(id, self.bundle.path, self.bundle.rootfs_path, f"{root}/{id}", self._units)
        with self._in_file():
            return encode(compile_restore(self.bundle.spec, self._host, place, sources, criu, given_fds, inherits_cgroups), len(id))

    def record(self, id: str, pid: int, start_time: int, joined: JoinedMountNamespace | None, manner: Manner,
               resctrl: ResctrlRecord | msgspec.UnsetType) -> ContainerRecord:
        """What is remembered of a container whose init has that pid."""
        bundle, spec, unit = self.bundle, self.bundle.spec, self.unit(id)
        created = datetime.datetime.now(datetime.UTC)
        cgroups = cgroups_of(self._host, self.cgroup_path(id))
        document = state_document(spec.oci_version, id, 0, "", bundle.path, bundle.rootfs_path, created, spec.annotations)
        is_alone = self._later_hooks is msgspec.UNSET
        passes_listener = self.filter is not None and self.filter.listener_path is not None
        front = front_of(document, pid, start_time, cgroups, starts=is_alone and not passes_listener,
                         deletes=is_alone and unit is None and joined is None and resctrl is msgspec.UNSET and bool(cgroups)
                         and not manner.notifies,
                         executes=joined is None and not passes_listener, shares_pid_namespace=bundle.shares_pid_namespace)
        return ContainerRecord(
            id=id, oci_version=spec.oci_version, bundle_path=bundle.path, rootfs_path=bundle.rootfs_path, pid=pid,
            start_time=start_time, created=created, namespaces=namespace_bits(spec),
            shares_pid_namespace=bundle.shares_pid_namespace, cgroups=cgroups,
            annotations=spec.annotations, capabilities=spec.process.capabilities if spec.process else None,
            joined_mount_namespace=joined, limits_pids=limits_pids(spec.linux.resources),
            limits_memory=limits_memory(spec.linux.resources), keeps_keyring=manner.keeps_keyring,
            unit=unit.name if unit is not None else None, apparmor_profile=spec.process.apparmor_profile if spec.process else None,
            filter=self.filter, hooks=self._later_hooks, inherited=self._inherited, resctrl=resctrl,
            denies_setgroups=denies_setgroups(spec.linux, self._host.caller), first_ids=first_ids_of(spec.linux),
            front=front)

    @contextlib.contextmanager
    def _in_file(self) -> Iterator[None]:
        """Name the file in what the plan's compiler, which knows none, finds wrong."""
        try:
            yield
        except errors.InvalidBundleError as error:
            if error.file is None:
                raise type(error)(self.bundle.config_file, error.json_path, error.reason) from error
            raise


def inherited_of(spec: Spec) -> Inherited | msgspec.UnsetType:
    """What further processes have of a container."""
    process, linux = spec.process or Process(cwd="/"), spec.linux
    inherited = Inherited(process.rlimits, process.scheduler, process.io_priority, process.exec_cpu_affinity, process.selinux_label,
                          linux.memory_policy, linux.personality)
    return msgspec.UNSET if inherited == Inherited() else inherited


def record_of(filter: Filter, seccomp: Seccomp) -> FilterRecord:
    """What is remembered of a filter."""
    if not notifies(seccomp):
        return FilterRecord(filter.program, filter.flags)
    return FilterRecord(filter.program, filter.flags, seccomp.listener_path, seccomp.listener_metadata, filter.notifies_of_sendmsg)


def filter_of(record: FilterRecord | None) -> Filter | None:
    """The filter again."""
    return None if record is None else Filter(record.program, record.flags, record.notifies_of_sendmsg)


class BundleCache:
    """The bundles used last. A config.json is read each time, and what was made of it is taken while its bytes are the
    same.

    root    where programs of filters are kept
    units   systemd's own cgroup where each container gets a unit, None where none does
    """

    def __init__(self, host: Host, root: str, units: str | None = None) -> None:
        if units is not None and not host.makes_cgroups:
            raise ValueError("containers without cgroups have no units of systemd")
        self._host = host
        self._units = units
        self._filters = FilterCache(root)
        self._kept: dict[tuple[str, bytes], CompiledBundle] = {}
        self._lock = threading.Lock()

    def open(self, path: str) -> CompiledBundle:
        """Raises InvalidBundleError, also if the root file system is not a directory."""
        path = os.path.abspath(path)
        data = read_config(path)
        key = (path, data)
        with self._lock:
            compiled = self._kept.pop(key, None)
            if compiled is not None:
                self._kept[key] = compiled
        if compiled is not None:
            check_rootfs(compiled.bundle)
            return compiled
        bundle = OpenedBundle.decode(path, data)
        check_rootfs(bundle)
        compiled = self.compile(bundle)
        for warning in compiled.told_warnings():
            _log.warning("%s", warning)
        with self._lock:
            self._kept[key] = compiled
            if len(self._kept) > BUNDLES_KEPT:
                del self._kept[next(iter(self._kept))]
        return compiled

    def compile(self, bundle: OpenedBundle) -> CompiledBundle:
        """One that is not kept. Raises InvalidBundleError, UnsupportedFieldError."""
        return CompiledBundle(bundle, self._host, self._units, self._filters.compile)


class ProcessCache:
    """The processes that were last executed in a container."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, int, str, int], EncodedPlan] = {}

    def compile(self, process: ProcessLike, record: ContainerRecord, host: Host, preserve_fds: int) -> EncodedPlan:
        """What the process does not say of itself it has of the container (INHERITED_FIELDS). Raises InvalidBundleError."""
        try:
            # the one of a container's cgroups that is not always the same (see ContainerCgroups.beside)
            cgroup = next((cgroup.path for cgroup in record.cgroups if cgroup.is_v2), "")
            key = (msgspec.json.encode(process), record.start_time, cgroup, preserve_fds)
        except (TypeError, ValueError):
            # what is wrong with it is said where it is decoded
            return _compile_process(process, record, host, preserve_fds)
        compiled = self._kept.get(key)
        if compiled is None:
            compiled = self._kept[key] = _compile_process(process, record, host, preserve_fds)
            if len(self._kept) > PROCESSES_KEPT:
                for oldest in list(self._kept)[:-PROCESSES_KEPT]:
                    self._kept.pop(oldest, None)
        return compiled


def _compile_process(process: ProcessLike, record: ContainerRecord, host: Host, preserve_fds: int) -> EncodedPlan:
    decoded = completed(process, record)
    inherited = record.inherited or Inherited()
    plan = compile_exec(decoded, record.cgroups, record.namespaces, record.id,
                        passes_root=record.joined_mount_namespace is not None, limits_pids=record.limits_pids, has_apparmor=host.has_apparmor,
                        has_selinux=host.has_selinux, keeps_keyring=record.keeps_keyring, preserve_fds=preserve_fds,
                        filter=filter_of(record.filter), memory_policy=inherited.memory_policy, personality=inherited.personality,
                        resctrl=() if record.resctrl is msgspec.UNSET else record.resctrl.paths, is_rootless=host.is_rootless,
                        denies_setgroups=record.denies_setgroups, first_ids=record.first_ids,
                        keeps_groups=keeps_groups(record.annotations))
    for warning in warnings_of_process(decoded, record, host):
        _log.warning("%s", warning)
    return encode(plan)


def completed(process: ProcessLike, record: ContainerRecord) -> Process:
    """With what it has of the container because it does not say it (INHERITED_FIELDS). Raises InvalidBundleError."""
    decoded = decode_process(process)
    inherited = record.inherited or Inherited()
    of_container = {"capabilities": record.capabilities, "apparmor_profile": record.apparmor_profile,
                    **{name: getattr(inherited, name) for name in INHERITED_FIELDS}}
    lacking = {name: value for name, value in of_container.items() if value and not getattr(decoded, name)}
    return msgspec.structs.replace(decoded, **lacking)


def warnings_of_process(completed: Process, record: ContainerRecord, host: Host) -> tuple[str, ...]:
    """What is not as it says."""
    return tuple(f"container {record.id}: exec: {warning}"
                 for warning in process_warnings(completed, host, bool(record.namespaces & flags.CLONE_NEWUSER)))
