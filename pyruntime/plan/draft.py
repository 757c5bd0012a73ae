"""A plan while it is being compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyruntime.plan.operations import (
    AnnounceHooks,
    AwaitRelease,
    AwaitStart,
    EnterPidNamespace,
    OpenConsole,
    Operation,
    PassSlots,
    Plan,
    ReceiveSlots,
    ReleaseChild,
    RunHook,
    Slot,
)
from pyruntime.plan.scheduling_operations import Scheduling
from pyruntime.spec import Hooks

if TYPE_CHECKING:
    from pyruntime.plan.net_devices import NetDeviceMove

SLOTS_PER_MESSAGE = 250  # as in native/abi.h


class Draft:
    """Three lists that grow, and the counters of slots.

    The host prepares what a container is made of either before the clone, or `overlaps` with the init that makes namespaces
    meanwhile; `sources` is the list for these operations and `source_slot` gives their slots.
    """

    def __init__(self, overlaps: bool = False) -> None:
        self.host: list[Operation] = []
        self.child: list[Operation] = []
        self.init: list[Operation] = []
        self.overlaps = overlaps
        self.sources = self.child if overlaps else self.host
        self.clone_flags = 0
        self.cgroup: Slot | None = None
        self.is_relayed = False
        self.scheduling: Scheduling | None = None
        self.net_devices: tuple[NetDeviceMove, ...] = ()
        self._slots = {"host": 0, "late": 0, "init": 0}
        self._receiving_at = 0

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

    def await_sources(self) -> None:
        """From here on the init uses what the host prepared."""
        self._receiving_at = len(self.init)

    def finish(self, preserve_fds: int, hooks: Hooks | None = None) -> Plan:
        late = self._slots["late"]
        parts = [(first, min(SLOTS_PER_MESSAGE, late - first)) for first in range(0, late, SLOTS_PER_MESSAGE)]
        self.child += [PassSlots("", first, count) for first, count in parts]
        self.init[self._receiving_at:self._receiving_at] = [ReceiveSlots("", first, count) for first, count in parts]
        if self.child and not any(isinstance(operation, (PassSlots, ReleaseChild)) for operation in self.child):
            # what is said of the child counts for a successor only if there is none yet, and a failure must not leave one
            self.child.append(ReleaseChild(""))
            self.init.insert(0, AwaitRelease(""))
        entries = [operation for operation in self.init if isinstance(operation, EnterPidNamespace)]
        return Plan(tuple(self.host), tuple(self.child), tuple(self.init), self.clone_flags, self.cgroup,
                    self._slots["host"], self._slots["init"], late, preserve_fds, bool(entries),
                    any(operation.awaits_reaping for operation in entries), *self._limit_hooks(), hooks or Hooks(),
                    is_relayed=self.is_relayed, opens_console=any(isinstance(operation, OpenConsole) for operation in self.init),
                    scheduling=self.scheduling, net_devices=self.net_devices)

    def _limit_hooks(self) -> tuple[bool, int | None]:
        """Whether the init waits for the host's hooks, and how long those take that it runs itself before it is ready."""
        ready = next((i for i, operation in enumerate(self.init) if isinstance(operation, AwaitStart)), 0)
        if not any(isinstance(operation, AnnounceHooks) for operation in self.init[:ready]):
            return False, 0
        limits = [operation.timeout_s for operation in self.init[:ready] if isinstance(operation, RunHook)]
        return True, sum(limits) if all(limits) else None
