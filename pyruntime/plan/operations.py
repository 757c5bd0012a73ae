"""The operations that a plan consists of.

Each class is one `OP_...` of native/abi.h; the order of its fields is the order of the operands there. A `place` is no operand: it
says in errors what a descriptor alone does not tell, the path in the container. Every operation carries the JSON path of the
field that asked for it, or '' where the runtime itself did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyruntime.plan import flags
from pyruntime.plan.host_operations import AttachDeviceProgram as AttachDeviceProgram
from pyruntime.plan.host_operations import EnableControllers as EnableControllers
from pyruntime.plan.host_operations import ListenForStart as ListenForStart
from pyruntime.plan.host_operations import MakeCgroup as MakeCgroup
from pyruntime.plan.host_operations import MakeUserNamespace as MakeUserNamespace
from pyruntime.plan.host_operations import MapChildIds as MapChildIds
from pyruntime.plan.host_operations import MapMountIds as MapMountIds
from pyruntime.plan.host_operations import MapOfferedMount as MapOfferedMount
from pyruntime.plan.host_operations import OpenCgroup as OpenCgroup
from pyruntime.plan.host_operations import OpenNamespace as OpenNamespace
from pyruntime.plan.host_operations import OpenTasks as OpenTasks
from pyruntime.plan.host_operations import OpenTree as OpenTree
from pyruntime.plan.host_operations import OwnCgroup as OwnCgroup
from pyruntime.plan.host_operations import PassDescriptor as PassDescriptor
from pyruntime.plan.host_operations import PassSlots as PassSlots
from pyruntime.plan.host_operations import RaiseHardLimit as RaiseHardLimit
from pyruntime.plan.host_operations import ReleaseChild as ReleaseChild
from pyruntime.plan.host_operations import WriteChildProc as WriteChildProc
from pyruntime.plan.host_operations import WriteFile as WriteFile
from pyruntime.plan.host_operations import rlimit_name
from pyruntime.plan.mount_operations import AttachMount as AttachMount
from pyruntime.plan.mount_operations import CopyTree as CopyTree
from pyruntime.plan.mount_operations import CopyUp as CopyUp
from pyruntime.plan.mount_operations import CountVersions as CountVersions
from pyruntime.plan.mount_operations import EnterRoot as EnterRoot
from pyruntime.plan.mount_operations import IsolatePropagation as IsolatePropagation
from pyruntime.plan.mount_operations import LabelFilesystem as LabelFilesystem
from pyruntime.plan.mount_operations import MaskPath as MaskPath
from pyruntime.plan.mount_operations import MountRoot as MountRoot
from pyruntime.plan.mount_operations import NewFilesystem as NewFilesystem
from pyruntime.plan.mount_operations import NewTmpfs as NewTmpfs
from pyruntime.plan.mount_operations import OfferMount as OfferMount
from pyruntime.plan.mount_operations import OpenRootPlace as OpenRootPlace
from pyruntime.plan.mount_operations import PivotRoot as PivotRoot
from pyruntime.plan.mount_operations import PlaceRoot as PlaceRoot
from pyruntime.plan.mount_operations import ProtectPath as ProtectPath
from pyruntime.plan.mount_operations import ReconfigureFilesystem as ReconfigureFilesystem
from pyruntime.plan.mount_operations import SetAttributesAt as SetAttributesAt
from pyruntime.plan.mount_operations import SetMountAttributes as SetMountAttributes
from pyruntime.plan.mount_operations import SetUnlockedAttributes as SetUnlockedAttributes
from pyruntime.plan.mount_operations import SwitchRoot as SwitchRoot
from pyruntime.plan.mount_operations import UseRoot as UseRoot
from pyruntime.plan.operation import Operation as Operation
from pyruntime.plan.operation import Slot as Slot
from pyruntime.spec import Hooks

if TYPE_CHECKING:
    from pyruntime.plan.net_devices import NetDeviceMove
    from pyruntime.plan.scheduling_operations import Scheduling


def _namespaces(bits: int) -> str:
    return ", ".join(name for name, bit in flags.NAMESPACES.items() if bits & bit)


# init


class ResetAffinity(Operation, frozen=True):
    """To what the cgroup's cpuset allows."""


class ReceiveSlots(Operation, frozen=True):
    first: int
    count: int


class JoinCgroup(Operation, frozen=True):
    path: bytes
    slot: Slot


class JoinNamespace(Operation, frozen=True):
    slot: Slot
    type: int
    keeps_groups: int = 0

    def subject(self) -> str:
        return _namespaces(self.type)


class JoinProcessNamespaces(Operation, frozen=True):
    slot: Slot
    types: int
    keeps_groups: int = 0

    def subject(self) -> str:
        return _namespaces(self.types)


class AwaitRelease(Operation, frozen=True):
    """What the host's ReleaseChild ends, or the caller's end."""


class BecomeNamespaceRoot(Operation, frozen=True):
    uid: int
    gid: int
    keeps_groups: int = 0

    def subject(self) -> str:
        return f"{self.uid}:{self.gid}"


class UnshareNamespaces(Operation, frozen=True):
    types: int

    def subject(self) -> str:
        return _namespaces(self.types)


class OpenTimeOffsets(Operation, frozen=True):
    about = "/proc/self/timens_offsets"
    slot: Slot


class UnshareTimeNamespace(Operation, frozen=True):
    """slot: the file that OpenTimeOffsets has opened, where there are offsets."""

    about = "time"
    offsets: bytes
    slot: Slot


class EnterPidNamespace(Operation, frozen=True):
    about = "pid"
    is_last: int
    awaits_reaping: int = 1


class OpenProc(Operation, frozen=True):
    about = "proc"
    slot: Slot


class WriteProc(Operation, frozen=True):
    path: bytes
    value: bytes
    slot: Slot


class MakeDirectory(Operation, frozen=True):
    path: bytes
    mode: int
    optional: int = 0


class MakeMountPoint(Operation, frozen=True):
    path: bytes
    is_directory: int


class MakeNode(Operation, frozen=True):
    """demands: bits of NODE_... in plan/flags.py, of a node that is there already."""

    path: bytes
    mode: int
    device: int
    uid: int
    gid: int
    demands: int = 0


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


class SetHostname(Operation, frozen=True):
    name: bytes


class SetDomainname(Operation, frozen=True):
    name: bytes


class RaiseLoopback(Operation, frozen=True):
    about = "lo"


class AnnounceNetwork(Operation, frozen=True):
    """So that the host can put devices into the network namespace; the init waits for it."""


class JoinSessionKeyring(Operation, frozen=True):
    name: bytes


class AnnounceHooks(Operation, frozen=True):
    """So that whoever listens knows of them."""


class RunHook(Operation, frozen=True):
    """command: the path, the state up to the pid and behind it, and the arguments. timeout_s: 0 for none. has_home: 1 if the environment is
    the program's, with what SetHome has found. is_filtered: 1 if it runs under the filter of a later InstallFilter."""

    command: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    timeout_s: int
    umask: int
    index: int
    has_home: int = 0
    is_filtered: int = 0

    def subject(self) -> str:
        return self.command[0].decode(errors="backslashreplace")


class AwaitStart(Operation, frozen=True):
    slot: Slot


class ChangeDirectory(Operation, frozen=True):
    path: bytes
    make: int


class SetRlimit(Operation, frozen=True):
    resource: int
    soft: int
    hard: int

    def subject(self) -> str:
        return rlimit_name(self.resource)


class OwnStdio(Operation, frozen=True):
    uid: int


class SetHome(Operation, frozen=True):
    about = "/etc/passwd"
    uid: int


class SetBoundingCapabilities(Operation, frozen=True):
    capabilities: int


class SetApparmorProfile(Operation, frozen=True):
    command: bytes
    slot: Slot
    place: str = ""


class SetIdentity(Operation, frozen=True):
    groups: bytes
    size: int
    uid: int
    gid: int
    setgroups: int  # SETGROUPS_... of plan/flags.py

    def subject(self) -> str:
        return f"{self.uid}:{self.gid}"


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


class FindProgram(Operation, frozen=True):
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]

    def subject(self) -> str | None:
        return self.arguments[0].decode(errors="backslashreplace")


class InstallFilter(Operation, frozen=True):
    program: bytes
    size: int
    flags: int
    revokes: int  # FILTER_REVOKES_... of plan/flags.py
    before: int  # FILTER_BEFORE_...


class ExecuteProgram(FindProgram, frozen=True):
    pass


class RefuseStart(Operation, frozen=True):
    """The end of a plan without a process; starting it fails with ENODATA."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done for one process, in order.

    host          in the caller, before the clone
    child         in the caller, after the clone
    init          in the new process
    clone_flags   CLONE_NEW... of the namespaces that are made at the clone
    cgroup        the slot of the v2 cgroup that it is cloned into
    hands_over    whether another process takes the first one's place, which EnterPidNamespace makes
    releases      whether that one waits until the first one was reaped
    awaits_hooks  whether the init waits until the host has run hooks
    hook_limit_s  how long the hooks that the init runs after that may take until it is ready; None for ever
    hooks         all of them
    net_devices   what the host moves into the network namespace, while the init waits
    preserve_fds  so many of the caller's descriptors from 3 on reach the program
    given_fds     and behind them so many that the caller names
    opens_console whether the init sends a terminal
    scheduling    what the host sets at AwaitScheduling
    is_relayed    whether an init clones the process, which has no memory of the caller's
    is_traceable  whether the caller, who has no privileges, has to write about the init, which is traceable until then
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
    awaits_hooks: bool = False
    hook_limit_s: int | None = 0
    hooks: Hooks = Hooks()
    is_relayed: bool = False
    opens_console: bool = False
    scheduling: Scheduling | None = None
    net_devices: tuple[NetDeviceMove, ...] = ()
    is_traceable: bool = False
    given_fds: int = 0

    def __str__(self) -> str:
        lines = []
        for where, operations in (("host", self.host), ("child", self.child), ("init", self.init)):
            lines += [f"{where:5} {operation}" for operation in operations]
        lines += [f"host  {device}" for device in self.net_devices]
        lines += [f"host  {self.scheduling}"] if self.scheduling is not None else []
        lines += [f"hooks {self.hooks}"] if self.hooks != Hooks() else []
        return "\n".join(lines)
