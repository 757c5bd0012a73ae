"""The `linux` object, apart from resources and seccomp (runtime-spec, config-linux.md)."""

import enum
from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import force_setattr

from pyruntime.spec.fields import Int64, Major, Minor, Section, Text, UInt32, UserId
from pyruntime.spec.resources import Resources
from pyruntime.spec.seccomp import Seccomp

_FILE_TYPE_BITS = 0o170000


class NamespaceType(enum.StrEnum):
    """A kind of namespace, by the specification's word (`mount`, not `mnt`)."""

    PID = "pid"
    NETWORK = "network"
    MOUNT = "mount"
    IPC = "ipc"
    UTS = "uts"
    USER = "user"
    CGROUP = "cgroup"
    TIME = "time"


class RootfsPropagation(enum.StrEnum):
    """Mount propagation of the root; the recursive forms are not the specification's, but Docker writes them."""

    PRIVATE = "private"
    SHARED = "shared"
    SLAVE = "slave"
    UNBINDABLE = "unbindable"
    RPRIVATE = "rprivate"
    RSHARED = "rshared"
    RSLAVE = "rslave"
    RUNBINDABLE = "runbindable"


class Clock(enum.StrEnum):
    """A clock that a time namespace can shift."""

    BOOTTIME = "boottime"
    MONOTONIC = "monotonic"


class DeviceType(enum.StrEnum):
    """A kind of device node, by the letter of mknod(1); `u` is a character device too."""

    CHARACTER = "c"
    BLOCK = "b"
    UNBUFFERED = "u"
    FIFO = "p"


class MemoryPolicyMode(enum.StrEnum):
    """A mode of set_mempolicy(2)."""

    DEFAULT = "MPOL_DEFAULT"
    BIND = "MPOL_BIND"
    INTERLEAVE = "MPOL_INTERLEAVE"
    WEIGHTED_INTERLEAVE = "MPOL_WEIGHTED_INTERLEAVE"
    PREFERRED = "MPOL_PREFERRED"
    PREFERRED_MANY = "MPOL_PREFERRED_MANY"
    LOCAL = "MPOL_LOCAL"


class MemoryPolicyFlag(enum.StrEnum):
    """A flag of set_mempolicy(2)."""

    NUMA_BALANCING = "MPOL_F_NUMA_BALANCING"
    RELATIVE_NODES = "MPOL_F_RELATIVE_NODES"
    STATIC_NODES = "MPOL_F_STATIC_NODES"


class PersonalityDomain(enum.StrEnum):
    """An execution domain of personality(2)."""

    LINUX = "LINUX"
    LINUX32 = "LINUX32"


class Namespace(Section, frozen=True, kw_only=True):
    """A namespace to create or, where `path` (absolute, on the host) is set, to join."""

    type: NamespaceType
    path: Text | None = None


class IDMapping(Section, frozen=True, kw_only=True):
    """`size` ids from `container_id` on are those from `host_id` on outside (user_namespaces(7))."""

    container_id: UInt32 = field(name="containerID")
    host_id: UInt32 = field(name="hostID")
    size: Annotated[int, Meta(ge=1, le=2**32 - 1)]


class TimeOffset(Section, frozen=True, kw_only=True):
    """What the container's clock is ahead of the host's, seconds plus nanoseconds (time_namespaces(7))."""

    secs: Int64 = 0
    nanosecs: Annotated[int, Meta(ge=0, le=999_999_999)] = 0


class Device(Section, frozen=True, kw_only=True):
    """A device node to make (config-linux.md "Devices").

    path           absolute path in the container
    major, minor   None with a FIFO only
    file_mode      permission bits, None for the runtime's default; engines also write the file type's bits,
                   which are dropped on loading
    uid, gid       ids of the container's user namespace, None for the runtime's default
    """

    path: Text
    type: DeviceType
    major: Major | None = None
    minor: Minor | None = None
    file_mode: UInt32 | None = None
    uid: UserId | None = None
    gid: UserId | None = None

    def __post_init__(self) -> None:
        if self.file_mode is not None and self.file_mode & _FILE_TYPE_BITS:
            force_setattr(self, "file_mode", self.file_mode & ~_FILE_TYPE_BITS)


class NetDevice(Section, frozen=True, kw_only=True):
    """The name that a network interface of the host gets in the container, None for its own; may end in `%d`."""

    name: Text | None = None


class IntelRdt(Section, frozen=True, kw_only=True):
    """Resource director technology (config-linux.md "IntelRdt").

    clos_id     name below the root of resctrl; `/` is that root, None a group named after the container
    schemata    lines, written after `l3_cache_schema` (which may be several) and `mem_bw_schema`
    """

    clos_id: Text | None = field(default=None, name="closID")
    schemata: tuple[str, ...] = ()
    l3_cache_schema: Text | None = None
    mem_bw_schema: Text | None = None
    enable_monitoring: bool = False


class MemoryPolicy(Section, frozen=True, kw_only=True):
    """NUMA policy; `nodes` is a list such as `0-3,7` (config-linux.md "Memory policy")."""

    mode: MemoryPolicyMode
    nodes: Text | None = None
    flags: tuple[MemoryPolicyFlag, ...] = ()


class Personality(Section, frozen=True, kw_only=True):
    """Execution domain; the specification knows no flag yet (config-linux.md "Personality")."""

    domain: PersonalityDomain
    flags: tuple[str, ...] = ()


class Linux(Section, frozen=True, kw_only=True):
    """What Linux adds (config-linux.md).

    net_devices          by name of the interface on the host
    cgroups_path         as written: its meaning depends on the cgroup driver
    resources            None leaves the cgroups' limits alone
    sysctl               values by key; `sysctl_path` says which file a key means
    rootfs_propagation   None for the runtime's default
    masked_paths, readonly_paths   absolute paths in the container
    """

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    time_offsets: dict[Clock, TimeOffset] = {}
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] = {}
    cgroups_path: Text | None = None
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: dict[str, str] = {}
    seccomp: Seccomp | None = None
    rootfs_propagation: RootfsPropagation | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: Text | None = None
    personality: Personality | None = None

    def namespace(self, type: NamespaceType) -> Namespace | None:
        """The entry of that type; None where the container stays in the runtime's namespace."""
        for namespace in self.namespaces:
            if namespace.type is type:
                return namespace
        return None

    def makes_mount_namespace(self) -> bool:
        """Whether the container has a mount namespace of its own."""
        namespace = self.namespace(NamespaceType.MOUNT)
        return namespace is not None and namespace.path is None


def sysctl_path(key: str) -> str:
    """The file below /proc/sys that a key means: `net.core.somaxconn` is `net/core/somaxconn`.

    As in sysctl.d(5), the first separator decides: after a dot, a slash stands for a dot in a name
    (`net.ipv4.conf.eth0/1.rp_filter`); after a slash, everything is as it stands.
    """
    slash = key.find("/")
    dot = key.find(".")
    if dot == -1 or -1 < slash < dot:
        return key
    return key.translate({0x2E: "/", 0x2F: "."})


# runc's list; besides net.*, user.* and fs.mqueue.*
_IPC_SYSCTLS = frozenset(("kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
                          "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"))


def sysctl_namespace(key: str) -> NamespaceType | None:
    """The kind of namespace that a key belongs to; None for what is the whole host's."""
    path = sysctl_path(key)
    if path in _IPC_SYSCTLS or path.startswith("fs/mqueue/"):
        return NamespaceType.IPC
    if path == "kernel/domainname":
        return NamespaceType.UTS
    if path.startswith("net/"):
        return NamespaceType.NETWORK
    return NamespaceType.USER if path.startswith("user/") else None
