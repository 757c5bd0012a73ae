"""A plan while it is being compiled."""

from __future__ import annotations

from pyruntime.plan.operations import EnterPidNamespace, Operation, Plan, Slot


class Draft:
    """Three lists that grow, and the counters of slots."""

    def __init__(self) -> None:
        self.host: list[Operation] = []
        self.child: list[Operation] = []
        self.init: list[Operation] = []
        self.clone_flags = 0
        self.cgroup: Slot | None = None
        self._slots = {"host": 0, "init": 0}

    def host_slot(self) -> Slot:
        self._slots["host"] += 1
        return Slot("host", self._slots["host"] - 1)

    def init_slot(self) -> Slot:
        self._slots["init"] += 1
        return Slot("init", self._slots["init"] - 1)

    def finish(self, preserve_fds: int) -> Plan:
        hands_over = any(isinstance(operation, EnterPidNamespace) for operation in self.init)
        return Plan(tuple(self.host), tuple(self.child), tuple(self.init), self.clone_flags, self.cgroup,
                    self._slots["host"], self._slots["init"], preserve_fds, hands_over)
