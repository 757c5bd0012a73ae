"""A plan while it is being compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.plan.operations import (
    AnnounceHooks,
    AwaitRelease,
    AwaitStart,
    EnterPidNamespace,
    MapChildIds,
    MapOfferedMount,
    OpenConsole,
    Operation,
    PassSlots,
    Plan,
    ReceiveSlots,
    ReleaseChild,
    RunHook,
    Slot,
    WriteChildProc,
)
from pyruntime.spec import Hooks

if TYPE_CHECKING:
    from pyruntime.plan.net_devices import NetDeviceMove
    from pyruntime.plan.scheduling_operations import Scheduling

SLOTS_PER_MESSAGE = 250  # as in native/abi.h


class Draft:
    """Three lists that grow, and the counters of slots.

    The host prepares what a container is made of either before the clone, or `overlaps` with the init that makes namespaces
    meanwhile; `sources` is the list for these operations and `source_slot` gives their slots. Copies of the host's mounts are among
    them, unless only the init may make some, in a mount namespace of its own: `trees` and `tree_slot`. What has to be opened with the
    caller's rights is in `open_early`, and what the host does at the init's word, last of all, in `offered`.
    """

    def __init__(self, overlaps: bool = False, is_rootless: bool = False) -> None:
        self.host: list[Operation] = []
        self.child: list[Operation] = []
        self.init: list[Operation] = []
        self.overlaps = overlaps
        self.sources = self.child if overlaps else self.host
        self.is_rootless = is_rootless
        self.trees: list[Operation] = [] if is_rootless else self.sources
        self.open_early: list[Operation] = []
        self.offered: list[MapOfferedMount] = []
        self.clone_flags = 0
        self.cgroup: Slot | None = None
        self.is_relayed = False
        self.scheduling: Scheduling | None = None
        self.net_devices: tuple[NetDeviceMove, ...] = ()
        self._slots = {"host": 0, "late": 0, "init": 0}
        self._receiving_at = 0
        self._opening_at = 0

    def host_slot(self) -> Slot:
        self._slots["host"] += 1
        return Slot("host", self._slots["host"] - 1)

    def source_slot(self) -> Slot:
        if not self.overlaps:
            return self.host_slot()
        self._slots["late"] += 1
        return Slot("late", self._slots["late"] - 1)

    def init_slot(self) -> Slot:
        self._slots["init"] += 1
        return Slot("init", self._slots["init"] - 1)

    def tree_slot(self) -> Slot:
        return self.init_slot() if self.is_rootless else self.source_slot()

    def open_trees_here(self) -> None:
        """The init has its mount namespace, and the caller's rights if it ever has them."""
        self._opening_at = len(self.init)

    def await_sources(self) -> None:
        """From here on the init uses what the host prepared."""
        self._receiving_at = len(self.init)

    def finish(self, preserve_fds: int, hooks: Hooks | None = None) -> Plan:
        self.init[self._opening_at:self._opening_at] = [*self.open_early, *(self.trees if self.is_rootless else ())]
        late = self._slots["late"]
        parts = [(first, min(SLOTS_PER_MESSAGE, late - first)) for first in range(0, late, SLOTS_PER_MESSAGE)]
        self.child += [PassSlots("", first, count) for first, count in parts]
        self.init[self._receiving_at:self._receiving_at] = [ReceiveSlots("", first, count) for first, count in parts]
        if self.child and not any(isinstance(operation, (PassSlots, ReleaseChild)) for operation in self.child):
            # what is said of the child counts for a successor only if there is none yet, and a failure must not leave one
            self.child.append(ReleaseChild(""))
            self.init.insert(0, AwaitRelease(""))
        self.child += self.offered
        is_traceable = self.is_rootless and any(isinstance(operation, (WriteChildProc, MapChildIds)) for operation in self.child)
        entries = [operation for operation in self.init if isinstance(operation, EnterPidNamespace)]
        return Plan(tuple(self.host), tuple(self.child), tuple(self.init), self.clone_flags, self.cgroup,
                    self._slots["host"], self._slots["init"], late, preserve_fds, bool(entries),
                    any(operation.awaits_reaping for operation in entries), *self._limit_hooks(), hooks or Hooks(),
                    is_relayed=self.is_relayed, opens_console=any(isinstance(operation, OpenConsole) for operation in self.init),
                    scheduling=self.scheduling, net_devices=self.net_devices, is_traceable=is_traceable)

    def _limit_hooks(self) -> tuple[bool, int | None]:
        """Whether the init waits for the host's hooks, and how long those take that it runs itself before it is ready."""
        ready = next((i for i, operation in enumerate(self.init) if isinstance(operation, AwaitStart)), 0)
        if not any(isinstance(operation, AnnounceHooks) for operation in self.init[:ready]):
            return False, 0
        limits = [operation.timeout_s for operation in self.init[:ready] if isinstance(operation, RunHook)]
        return True, sum(limits) if all(limits) else None
