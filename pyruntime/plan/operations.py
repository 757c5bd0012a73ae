"""The operations that a plan consists of.

Each class is one `OP_...` of native/abi.h; the order of its fields is the order of the operands there. Every operation carries
the JSON path of the field that asked for it, or '' where the runtime itself did.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Slot(msgspec.Struct, frozen=True):
    """A place for a descriptor: filled by the host before the clone, or by the host while the init is at work already
    (late), or by the init itself."""

    owner: Literal["host", "late", "init"]
    index: int

    def __str__(self) -> str:
        return f"{self.owner}:{self.index}"


class Operation(msgspec.Struct, frozen=True):
    """One step. `step` says in words what is tried, `subject()` on what."""

    json_path: str

    def subject(self) -> str | None:
        """The path or name that the step is about, None if there is none."""
        for name in ("path", "name"):
            value = getattr(self, name, None)
            if value is not None:
                return str(value.decode(errors="backslashreplace"))
        return None

    def __str__(self) -> str:
        parts = [f"{step_of(self):32}"]
        for name in self.__struct_fields__[1:]:
            value = getattr(self, name)
            if isinstance(value, bytes):
                shown = value.decode(errors="backslashreplace") if len(value) < 200 else f"<{len(value)} bytes>"
            elif isinstance(value, tuple):
                shown = " ".join(item.decode(errors="backslashreplace") for item in value)
            elif isinstance(value, Slot):
                shown = str(value)
            else:
                shown = oct(value) if name == "mode" else hex(value) if value > 4096 else str(value)
            parts.append(f"{name}={shown}")
        return " ".join(parts) + (f"  # {self.json_path}" if self.json_path else "")


def step_of(operation: Operation) -> str:
    """The step in words: `MakeCgroup` is "make cgroup"."""
    name = type(operation).__name__
    return "".join(f" {c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


# host, before the clone


class MakeCgroup(Operation, frozen=True):
    path: bytes
    mount_length: int
    is_cpuset: int = 0


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


class ReleaseChild(Operation, frozen=True):
    pass


class PassSlots(Operation, frozen=True):
    first: int
    count: int


# init


class ReceiveSlots(Operation, frozen=True):
    first: int
    count: int


class JoinCgroup(Operation, frozen=True):
    path: bytes
    slot: Slot


class JoinNamespace(Operation, frozen=True):
    slot: Slot
    type: int


class JoinProcessNamespaces(Operation, frozen=True):
    slot: Slot
    types: int


class AwaitIdMaps(Operation, frozen=True):
    uid: int
    gid: int
    awaits: int


class UnshareNamespaces(Operation, frozen=True):
    types: int


class UnshareTimeNamespace(Operation, frozen=True):
    offsets: bytes
    slot: Slot


class EnterPidNamespace(Operation, frozen=True):
    is_last: int
    awaits_reaping: int = 1


class IsolatePropagation(Operation, frozen=True):
    pass


class SetPropagation(Operation, frozen=True):
    path: bytes
    propagation: int
    recursive: int


class OpenProc(Operation, frozen=True):
    slot: Slot


class WriteProc(Operation, frozen=True):
    path: bytes
    value: bytes
    slot: Slot


class NewFilesystem(Operation, frozen=True):
    type: bytes
    options: tuple[bytes, ...]
    slot: Slot
    attributes: int


class SetMountAttributes(Operation, frozen=True):
    slot: Slot
    set: int
    clear: int
    propagation: int
    recursive: int


class PivotRoot(Operation, frozen=True):
    slot: Slot


class SwitchRoot(Operation, frozen=True):
    slot: Slot


class MountRoot(Operation, frozen=True):
    path: bytes
    slot: Slot


class UseRoot(Operation, frozen=True):
    slot: Slot


class AttachMount(Operation, frozen=True):
    path: bytes
    slot: Slot
    refuses_links: int


class MakeDirectory(Operation, frozen=True):
    path: bytes
    mode: int
    optional: int = 0


class MakeNode(Operation, frozen=True):
    path: bytes
    mode: int
    device: int
    uid: int
    gid: int


class MakeLink(Operation, frozen=True):
    path: bytes
    target: bytes
    replace: int


class OpenConsole(Operation, frozen=True):
    width: int
    height: int
    uid: int
    binds_console: int


class StartSession(Operation, frozen=True):
    takes_terminal: int


class MaskPath(Operation, frozen=True):
    path: bytes
    null: Slot
    directory: Slot


class ProtectPath(Operation, frozen=True):
    path: bytes


class SetHostname(Operation, frozen=True):
    name: bytes


class SetDomainname(Operation, frozen=True):
    name: bytes


class RaiseLoopback(Operation, frozen=True):
    pass


class JoinSessionKeyring(Operation, frozen=True):
    name: bytes


class AwaitStart(Operation, frozen=True):
    slot: Slot


class ChangeDirectory(Operation, frozen=True):
    path: bytes
    make: int


class SetRlimit(Operation, frozen=True):
    resource: int
    soft: int
    hard: int


class OwnStdio(Operation, frozen=True):
    uid: int


class SetHome(Operation, frozen=True):
    uid: int


class SetBoundingCapabilities(Operation, frozen=True):
    capabilities: int


class SetIdentity(Operation, frozen=True):
    groups: bytes
    size: int
    uid: int
    gid: int
    keeps_groups: int


class SetCapabilities(Operation, frozen=True):
    effective: int
    permitted: int
    inheritable: int


class SetAmbientCapabilities(Operation, frozen=True):
    capabilities: int


class SetNoNewPrivileges(Operation, frozen=True):
    pass


class SetUmask(Operation, frozen=True):
    mask: int


class ExecuteProgram(Operation, frozen=True):
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]

    def subject(self) -> str | None:
        return self.arguments[0].decode(errors="backslashreplace")


class Plan(msgspec.Struct, frozen=True):
    """What is to be done for one process, in order.

    host          in the caller, before the clone
    child         in the caller, after the clone
    init          in the new process
    clone_flags   CLONE_NEW... of the namespaces that are made at the clone
    cgroup        the slot of the v2 cgroup that it is cloned into
    hands_over    whether another process takes the first one's place, which EnterPidNamespace makes
    releases      whether that one waits until the first one was reaped
    """

    host: tuple[Operation, ...]
    child: tuple[Operation, ...]
    init: tuple[Operation, ...]
    clone_flags: int
    cgroup: Slot | None
    host_slots: int
    init_slots: int
    late_slots: int = 0
    preserve_fds: int = 0
    hands_over: bool = False
    releases: bool = False

    def __str__(self) -> str:
        lines = []
        for where, operations in (("host", self.host), ("child", self.child), ("init", self.init)):
            lines += [f"{where:5} {operation}" for operation in operations]
        return "\n".join(lines)
class RefuseStart(Operation, frozen=True):
    """The end of a plan without a process; starting it fails with ENODATA."""


