"""Why an operation is in a plan, where the field that asked for it does not tell, or none did: a rule of the specification, of the kernel, or
of this runtime."""

from __future__ import annotations

from pyruntime.plan.flags import MOUNT_ATTR_RDONLY
from pyruntime.plan.mount_operations import SetMountAttributes
from pyruntime.plan.operation import Operation

_DEVICES = "config-linux.md, Default Devices: every container has them"
_IN_USER_NAMESPACE = f"{_DEVICES}; no device can be made in a user namespace, so that the host's is bound"
_STREAMS = "config-linux.md, Dev symbolic links: every container has them"
_ALLOWED = "what no rule allows is denied, and config-linux.md, Default Devices, are allowed besides"
_READ_ONLY = "what is read-only becomes so once it is filled"
_JOINED = "a cgroup of v1 is joined by the init itself, through a file that the host has opened"

# by class and JSON path without indices, else by class
_REASONS: dict[tuple[str, str] | str, str] = {
    # host
    "MakeCgroup": "each container has cgroups of its own; without cgroupsPath they are named after it",
    "EnableControllers": "cgroups(7): a v2 cgroup limits what those above it pass on",
    "AttachDeviceProgram": _ALLOWED,
    ("WriteFile", "$.linux.resources.devices"): _ALLOWED,
    "OpenCgroup": "the init is cloned into the v2 cgroup, whose limits hold from its first instruction on",
    "OpenTasks": _JOINED,
    "OwnCgroup": "config-linux.md, Cgroup ownership: who may write to it owns it",
    ("OpenTree", ""): _IN_USER_NAMESPACE,
    ("AttachMount", ""): _IN_USER_NAMESPACE,
    ("OpenTree", "$.linux.maskedPaths"): "files are masked with the host's null device: what is at /dev/null in the image is not trusted",
    ("NewFilesystem", "$.linux.maskedPaths"): "directories are masked with an empty file system that nobody can write to",
    ("OpenTree", "$.root.path"): "the root becomes a mount of its own, with all mounts below it",
    "ListenForStart": "runtime.md, Lifecycle: any process may start the container, so that it waits on a socket in the state directory",
    "PassSlots": "what the host has opened is sent to the init",
    "ReleaseChild": "the host has done its part",
    "WriteChildProc": "written by the host, which alone may",
    "MapOfferedMount": "in a user namespace the init may not map the ids of a mount, so that the host does",
    "MapChildIds": "without privileges, ids of others are mapped by a program that may",
    "RaiseHardLimit": "in a user namespace nobody may raise a limit, so that the host does",
    # init
    "ReceiveSlots": "the init goes on once it has what the host has opened",
    "AwaitRelease": "the init goes on once the host has done its part",
    "JoinCgroup": _JOINED,
    "ResetAffinity": "where the caller may run is not where the container may",
    "RaiseLoopback": "a new network namespace has its loopback device down",
    "BecomeNamespaceRoot": "who sets the container up is root of its user namespace",
    "EnterPidNamespace": "a pid namespace holds for children alone, so that the init has one that takes its place",
    "OpenProc": "labels and sysctls are written through a procfs that no mount of the container covers",
    "IsolatePropagation": "nothing that is mounted here reaches the host",
    "PlaceRoot": "config.md, POSIX-platform Hooks: they find the mounts made and the host's files still there",
    "EnterRoot": "config.md, POSIX-platform Hooks: they find the mounts made and the host's files still there",
    "PivotRoot": "from here on nothing of the host can be reached by name",
    "SwitchRoot": "from here on nothing of the host can be reached by name; the root is covered and not pivoted (--no-pivot)",
    "MountRoot": "there is no mount namespace of the container's own, so that its root has a place in the one that it is in",
    "UseRoot": "there is no mount namespace of the container's own, so that its root is changed as by chroot(2)",
    "CopyTree": "its source is in the root file system, so that it is what the mounts before have made of that",
    "OfferMount": "in a user namespace the init may not map the ids of a mount, so that the host does",
    "NewTmpfs": "a tmpfs has the mode of what it covers, unless it is given one",
    "SetUnlockedAttributes": "what the host has made read-only, nosuid and so on stays so in a user namespace",
    ("MakeNode", ""): _DEVICES,
    ("MakeLink", ""): _STREAMS,
    "OpenConsole": "the terminal is made in the container's own devpts",
    "MakeDirectory": "a working directory that the image lacks is made",
    "JoinSessionKeyring": "the keys of the caller are none of the container's; --no-new-keyring leaves them",
    "StartSession": "what the caller's terminal sends to its processes is not for the container's",
    "AnnounceNetwork": "the network namespace is there, and devices can be moved into it",
    "AnnounceHooks": "who waits for the init learns that hooks are to be run",
    "AwaitStart": "runtime.md, Lifecycle: the container is created, and goes on when it is started",
    "AwaitScheduling": "set by the host just before the program: the process has no right to it, and loses some of it by a fork",
    "OwnStdio": "the process may open its own streams again by /dev/stdout and the like",
    "SetHome": "HOME is not given: it is that of the user's entry in the image's /etc/passwd",
    "SetUmask": "without one it is 0022: the specification leaves that to the runtime",
    ("SetCapabilities", ""): "a change of user id takes all capabilities, unless some are given",
    "SetCapabilities": "after the change of user id, which would take them",
    "FindProgram": "a program that is missing fails the creation, or cannot be told of once the filter is there",
    "InstallFilter": "as late as possible: what sets the process up is not subject to its filter",
    "RefuseStart": "config.md, Process: a container without a process can be created, and not started",
}


def reason_of(operation: Operation, by_init: bool) -> str | None:
    """In words; None where the field that asked for it says all."""
    name, path = type(operation).__name__, operation.json_path.partition("[")[0]
    if type(operation) is SetMountAttributes:
        return _READ_ONLY if by_init and operation.set == MOUNT_ATTR_RDONLY else None
    if name == "MakeLink" and not path and operation.subject() == "/dev/ptmx":
        return "config-linux.md, Default Devices: /dev/ptmx leads to the container's own devpts"
    return _REASONS.get((name, path), _REASONS.get(name))
