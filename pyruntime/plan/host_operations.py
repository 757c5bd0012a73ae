"""The operations that the caller's thread runs, before the clone and after it."""

from __future__ import annotations

from pyruntime.plan import flags
from pyruntime.plan.operation import Operation, Slot


def rlimit_name(number: int) -> str:
    return next((name for name, known in flags.RLIMITS.items() if known == number), str(number))


# host, before the clone


class MakeCgroup(Operation, frozen=True):
    """refuses_frozen: 1 for one that is there already and frozen, 2 also for a new one, whose parent is."""

    path: bytes
    mount_length: int
    is_cpuset: int = 0
    may_be_populated: int = 0
    refuses_frozen: int = 0


class EnableControllers(Operation, frozen=True):
    path: bytes
    controllers: bytes
    mount_length: int


class WriteFile(Operation, frozen=True):
    """texts: first `unless` names of files, of which none may be there for this to be done; then what is written, each at once; last
    `expected` texts that the file has to say then, as `check` (flags.CHECK_...) has it. is_optional: there need not be such a file."""

    path: bytes
    texts: tuple[bytes, ...]
    unless: int = 0
    expected: int = 0
    check: int = 0
    is_optional: int = 0

    @property
    def values(self) -> tuple[bytes, ...]:
        """What is written."""
        return self.texts[self.unless:len(self.texts) - self.expected]


class AttachDeviceProgram(Operation, frozen=True):
    """replaces: 1 if it takes the place of the one that this runtime has attached earlier."""

    path: bytes
    program: bytes
    size: int
    replaces: int = 0


class OwnCgroup(Operation, frozen=True):
    path: bytes
    uid: int


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


class MakeUserNamespace(Operation, frozen=True):
    """One that no process is in; the maps are as in /proc/PID/uid_map."""

    about = "user"
    uid_map: bytes
    gid_map: bytes
    slot: Slot


class MapMountIds(Operation, frozen=True):
    """By the init, too."""

    mount: Slot
    namespace: Slot
    recursive: int
    place: str = ""


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


class MapChildIds(Operation, frozen=True):
    """By a program that may. arguments: with an empty one in the place of the child's pid."""

    path: bytes
    arguments: tuple[bytes, ...]


class ReleaseChild(Operation, frozen=True):
    pass


class PassSlots(Operation, frozen=True):
    first: int
    count: int


class MapOfferedMount(Operation, frozen=True):
    """Of what the init's next OfferMount offers."""

    namespace: Slot
    recursive: int
    place: str = ""
