"""config.json as typed, frozen structs: all of runtime-spec 1.3 for Linux, loaded and checked.

Attribute names are the specification's in snake case. What was absent is None, () or {}; enumerated values
are enumerations that equal their text. Nothing here looks at the host.
"""

from pyruntime.spec.container import Hook, Hooks, Mount, Root, Spec
from pyruntime.spec.isolation import (
    Clock,
    Device,
    DeviceType,
    IDMapping,
    IntelRdt,
    Linux,
    MemoryPolicy,
    MemoryPolicyFlag,
    MemoryPolicyMode,
    Namespace,
    NamespaceType,
    NetDevice,
    Personality,
    PersonalityDomain,
    RootfsPropagation,
    TimeOffset,
    sysctl_namespace,
    sysctl_path,
)
from pyruntime.spec.load import decode_intel_rdt, decode_process, decode_resources, load_bundle, load_spec, read_config, refuse_for_host
from pyruntime.spec.process import (
    Capabilities,
    ConsoleSize,
    CPUAffinity,
    IOPriority,
    IOPriorityClass,
    Process,
    Rlimit,
    RlimitType,
    Scheduler,
    SchedulerFlag,
    SchedulerPolicy,
    User,
)
from pyruntime.spec.resources import (
    CPU,
    BlockIO,
    DeviceCgroupRule,
    DeviceCgroupType,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from pyruntime.spec.seccomp import (
    Seccomp,
    SeccompAction,
    SeccompArchitecture,
    SeccompFlag,
    SeccompOperator,
    SyscallArgument,
    SyscallRule,
)

__all__ = [
    "CPU", "BlockIO", "CPUAffinity", "Capabilities", "Clock", "ConsoleSize", "Device", "DeviceCgroupRule",
    "DeviceCgroupType", "DeviceType", "Hook", "Hooks", "HugepageLimit", "IDMapping", "IOPriority", "IOPriorityClass",
    "IntelRdt", "InterfacePriority", "Linux", "Memory", "MemoryPolicy", "MemoryPolicyFlag", "MemoryPolicyMode", "Mount",
    "Namespace", "NamespaceType", "NetDevice", "Network", "Personality", "PersonalityDomain", "Pids", "Process", "Rdma",
    "Resources", "Rlimit", "RlimitType", "Root", "RootfsPropagation", "Scheduler", "SchedulerFlag", "SchedulerPolicy",
    "Seccomp", "SeccompAction", "SeccompArchitecture", "SeccompFlag", "SeccompOperator", "Spec", "SyscallArgument",
    "SyscallRule", "ThrottleDevice", "TimeOffset", "User", "WeightDevice", "decode_intel_rdt", "decode_process", "decode_resources",
    "load_bundle", "load_spec", "read_config", "refuse_for_host", "sysctl_namespace", "sysctl_path",
]
