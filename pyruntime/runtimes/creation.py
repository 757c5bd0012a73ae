"""A new container: all that is made of a bundle, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pyruntime.cgroups import ContainerCgroups, cgroups_of, systemd
from pyruntime.errors import SetupError
from pyruntime.host import Host
from pyruntime.interface import StdioOptions
from pyruntime.native import process as native
from pyruntime.plan.compile import Manner
from pyruntime.runtimes.compiled import CompiledBundle
from pyruntime.runtimes.hooks import run_hooks, run_poststop_hooks
from pyruntime.runtimes.joined_mounts import detach_root, joined_mount_namespace
from pyruntime.runtimes.launch import launch
from pyruntime.runtimes.listener import check_listener, passing_on
from pyruntime.runtimes.live import LiveProcess
from pyruntime.runtimes.unit import started_unit
from pyruntime.state import ContainerRecord, Store
from pyruntime.state.record import JoinedMountNamespace, ResctrlRecord

if TYPE_CHECKING:
    from pyruntime.network.devices import NetDevices
    from pyruntime.runtimes.resctrl import ResctrlGroups


class Creation:
    """What has been made so far of a container whose state directory is there.

    ends_everything   what is in the cgroups when it fails was made for the container
    """

    ends_everything = False

    def __init__(self, store: Store, host: Host, id: str, compiled: CompiledBundle) -> None:
        self._store = store
        self._host = host
        self._id = id
        self._compiled = compiled
        self._cgroup_path: str | None = None  # none was made of one that cannot be planned
        self._unit_name: str | None = None
        self._joined: JoinedMountNamespace | None = None
        self._live: LiveProcess | None = None
        self._record: ContainerRecord | None = None
        self._has_run_hooks = False
        self._devices: NetDevices | None = None
        self._groups: ResctrlGroups | None = None

    def run(self, options: StdioOptions, manner: Manner) -> tuple[LiveProcess, ContainerRecord]:
        """Make it. Raises InvalidBundleError, SetupError; `undo` then takes back what was made."""
        id, compiled = self._id, self._compiled
        encoded = compiled.plan(id, self._store.root, manner)
        check_listener(compiled.filter)
        if manner.notifies:
            self._store.make_notify_directory(id)
        path, unit = compiled.cgroup_path(id), compiled.unit(id)
        with started_unit(unit, lambda pids: compiled.unit_properties(id, pids), compiled.unit_json_paths()):
            self._unit_name = unit.name if unit is not None else None
            if path is not None:
                self._store.save_cgroup(id, path, self._unit_name)
            self._cgroup_path = path
            self._joined = joined_mount_namespace(compiled.bundle.spec.linux)
            resctrl = self._make_groups()

            def prepare(pid: int, start_time: int) -> None:
                self._record = compiled.record(id, pid, start_time, self._joined, manner, resctrl)
                self._store.prepare(self._record)

            def run_create_hooks() -> None:
                self._has_run_hooks = True
                run_hooks(encoded.plan.hooks, ("prestart", "createRuntime"), self._noted(), "creating")

            move_devices = None
            if encoded.plan.net_devices:
                from pyruntime.network.devices import NetDevices  # takes a tenth of a second, and few need it

                self._devices = NetDevices(encoded.plan.net_devices)
                move_devices = self._devices.move
            pass_on = passing_on(compiled.filter, self._noted, "creating")
            try:
                self._live = launch(encoded, id, options, native.MESSAGE_READY, prepare,
                                    move_devices=move_devices, run_hooks=run_create_hooks, pass_on=pass_on)
            except SetupError as error:
                raise self._explain(error) from error
        if unit is not None and (late := compiled.late_unit_properties()):
            systemd.set_unit_properties(unit.name, late)
        self._store.commit(id)
        if self._devices is not None:
            self._devices.close()
        return self._live, self._noted()

    def _make_groups(self) -> ResctrlRecord | msgspec.UnsetType:
        group = self._compiled.resctrl_group(self._id)
        if group is None:
            return msgspec.UNSET
        from pyruntime.runtimes.resctrl import ResctrlGroups  # few need it

        self._groups = ResctrlGroups(group)
        return self._groups.make(lambda paths: self._store.save_resctrl(self._id, paths))

    def _explain(self, error: SetupError) -> SetupError:
        try:
            from pyruntime.runtimes.hints import explain  # only a failure needs it
        except ImportError:  # of a caller that has changed its root since
            return error
        return explain(error, self._compiled.bundle.spec, self._host)

    def _noted(self) -> ContainerRecord:
        assert self._record is not None  # launch notes the process before it does anything with it
        return self._record

    def undo(self) -> None:
        """Nothing is left of it, and hooks that have begun to run are followed by those for the end."""
        if self._live is not None:
            self._live.end()
        if self._devices is not None:
            self._devices.give_back()
        if self._groups is not None:
            self._groups.undo()
        try:
            if self._cgroup_path is not None:
                cgroups = ContainerCgroups(cgroups_of(self._host, self._cgroup_path), self._unit_name)
                if self._has_run_hooks or self.ends_everything:
                    cgroups.remove()  # with processes that hooks have left
                else:
                    cgroups.remove_empty()
        finally:
            self._store.remove(self._id)
        if self._joined is not None:
            detach_root(self._joined, self._compiled.bundle.rootfs_path)
        if self._has_run_hooks and self._record is not None:
            run_poststop_hooks(self._record)


Made = TypeVar("Made", bound=Creation)


def make(store: Store, id: str, begin: Callable[[], Made], run: Callable[[Made], tuple[LiveProcess, ContainerRecord]]) -> tuple[
        LiveProcess, ContainerRecord]:
    """A container, or nothing. Raises ContainerExistsError, and what `begin` and `run` raise."""
    store.add(id)
    creation: Made | None = None
    try:
        creation = begin()
        return run(creation)
    except BaseException:
        if creation is not None:
            creation.undo()
        else:
            store.remove(id)
        raise
