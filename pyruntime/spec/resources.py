"""The `linux.resources` object (runtime-spec, config-linux.md "Control groups").

Every limit is None where it was absent: the cgroup's value is left as it is.
"""

import enum
from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import force_setattr

from pyruntime.spec.fields import (
    Limit,
    Major,
    Minor,
    Section,
    Text,
    UInt16,
    UInt32,
    UInt64,
)


class DeviceCgroupType(enum.StrEnum):
    """The kind of device that a rule is about."""

    ALL = "a"
    CHARACTER = "c"
    BLOCK = "b"


class DeviceCgroupRule(Section, frozen=True, kw_only=True):
    """An entry of the allowed device list; later entries win (config-linux.md "Allowed Device list").

    major, minor   None is every number; -1, which runc and its callers write for it, is read as None
    access         letters of `rwm` (read, write, mknod); None is all three
    """

    allow: bool
    type: DeviceCgroupType = DeviceCgroupType.ALL
    major: Annotated[int, Meta(ge=-1, le=2**32 - 1)] | None = None
    minor: Annotated[int, Meta(ge=-1, le=2**32 - 1)] | None = None
    access: Text | None = None

    def __post_init__(self) -> None:
        if self.major == -1:
            force_setattr(self, "major", None)
        if self.minor == -1:
            force_setattr(self, "minor", None)


class Memory(Section, frozen=True, kw_only=True):
    """Memory limits in bytes, -1 for none, 0 counts as not set, as engines write it (config-linux.md "Memory").

    swap         memory and swap together, so never less than `limit`
    swappiness   0 to 100
    """

    limit: Limit | None = None
    reservation: Limit | None = None
    swap: Limit | None = None
    kernel: Limit | None = None
    kernel_tcp: Limit | None = field(default=None, name="kernelTCP")
    swappiness: Annotated[int, Meta(ge=0, le=100)] | None = None
    disable_oom_killer: bool | None = field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CPU(Section, frozen=True, kw_only=True):
    """CPU time and placement, times in microseconds (config-linux.md "CPU").

    shares, quota, period   0 counts as not set, as engines write it and runc reads it; quota -1 is no limit
    cpus, mems              lists such as `0-3,7`
    idle                    1 makes the cgroup SCHED_IDLE
    """

    shares: Annotated[int, Meta(ge=0, le=262144)] | None = None
    quota: Limit | None = None
    burst: UInt64 | None = None
    period: UInt64 | None = None
    realtime_runtime: Limit | None = None
    realtime_period: UInt64 | None = None
    cpus: Text | None = None
    mems: Text | None = None
    idle: Annotated[int, Meta(ge=0, le=1)] | None = None


class WeightDevice(Section, frozen=True, kw_only=True):
    """The weight of one block device; at least one of the two weights is set."""

    major: Major
    minor: Minor
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None


class ThrottleDevice(Section, frozen=True, kw_only=True):
    """The rate of one block device, in bytes or operations per second."""

    major: Major
    minor: Minor
    rate: UInt64


class BlockIO(Section, frozen=True, kw_only=True):
    """Weights and rates of block devices (config-linux.md "Block IO")."""

    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = field(default=(), name="throttleReadIOPSDevice")
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = field(default=(), name="throttleWriteIOPSDevice")


class HugepageLimit(Section, frozen=True, kw_only=True):
    """Bytes of huge pages of one size, such as `2MB` (config-linux.md "Huge page limits")."""

    page_size: str
    limit: UInt64


class InterfacePriority(Section, frozen=True, kw_only=True):
    """Priority of the traffic on one of the host's interfaces."""

    name: Text
    priority: UInt32


class Network(Section, frozen=True, kw_only=True):
    """The net_cls and net_prio controllers of cgroup v1 (config-linux.md "Network")."""

    class_id: UInt32 | None = field(default=None, name="classID")
    priorities: tuple[InterfacePriority, ...] = ()


class Pids(Section, frozen=True, kw_only=True):
    """Number of tasks: -1 is no limit, 0 is none at all from runtime-spec 1.3 on (config-linux.md "PIDs")."""

    limit: Limit | None = None


class Rdma(Section, frozen=True, kw_only=True):
    """Limits of one RDMA device; at least one is set (config-linux.md "RDMA")."""

    hca_handles: UInt32 | None = None
    hca_objects: UInt32 | None = None


class Resources(Section, frozen=True, kw_only=True):
    """What the container's cgroups are set to.

    rdma      by name of the device
    unified   contents by name of a cgroup v2 file, such as `memory.high`
    """

    devices: tuple[DeviceCgroupRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}
