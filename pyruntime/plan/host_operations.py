"""The operations that the caller's thread runs, before the clone and after it."""

from __future__ import annotations

from pyruntime.plan import flags
from pyruntime.plan.operation import Operation, Slot


def rlimit_name(number: int) -> str:
    return next((name for name, known in flags.RLIMITS.items() if known == number), str(number))


# host, before the clone


class MakeCgroup(Operation, frozen=True):
    path: bytes
    mount_length: int
    is_cpuset: int = 0
    may_be_populated: int = 0


class EnableControllers(Operation, frozen=True):
    path: bytes
    controllers: bytes
    mount_length: int


class WriteFile(Operation, frozen=True):
    path: bytes
    values: tuple[bytes, ...]


class AttachDeviceProgram(Operation, frozen=True):
    path: bytes
    program: bytes
    size: int


class OpenCgroup(Operation, frozen=True):
    path: bytes
    slot: Slot


class OpenTasks(Operation, frozen=True):
    path: bytes
    slot: Slot


class OpenTree(Operation, frozen=True):
    path: bytes
    slot: Slot
    recursive: int
    propagation: int
    device: int = 0
    is_block: int = 0


class OpenNamespace(Operation, frozen=True):
    path: bytes
    slot: Slot
    type: int
    must_differ: int = 0


class PassDescriptor(Operation, frozen=True):
    slot: Slot
    index: int


class ListenForStart(Operation, frozen=True):
    path: bytes
    name: bytes
    slot: Slot


# host, after the clone


class WriteChildProc(Operation, frozen=True):
    path: bytes
    value: bytes


class RaiseHardLimit(Operation, frozen=True):
    resource: int
    hard: int

    def subject(self) -> str:
        return rlimit_name(self.resource)


class ReleaseChild(Operation, frozen=True):
    pass


class PassSlots(Operation, frozen=True):
    first: int
    count: int
