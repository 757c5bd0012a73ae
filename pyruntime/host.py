"""Facts about the host that a plan depends on, read once."""

from __future__ import annotations

import os

import msgspec

from pyruntime.errors import UnsupportedHostError

MINIMUM_KERNEL = (5, 14)
PROGRAM_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin")
_CAP_SYS_ADMIN = 21
_FIRST_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO of the kernel


class Hierarchy(msgspec.Struct, frozen=True):
    """A mounted cgroup hierarchy; `controllers` are of v1 (a named one is `name=systemd`), v2 has its own file for them."""

    mount_point: str
    is_v2: bool
    controllers: tuple[str, ...] = ()


class Unprivileged(msgspec.Struct, frozen=True):
    """A caller without CAP_SYS_ADMIN: its effective ids, and where the programs of newuidmap(1) are; None where they are not installed."""

    uid: int
    gid: int
    newuidmap: str | None = None
    newgidmap: str | None = None


class Host(msgspec.Struct, frozen=True):
    """kernel is (major, minor); held_capabilities and bounding_capabilities are bit sets of the caller's; has_apparmor and has_selinux say
    that these are in force; resctrl is where that file system is mounted, None where it is not.

    caller              None if it may make what belongs to the host
    in_user_namespace   whether the caller is in another user namespace than the first one
    makes_cgroups       whether containers get any: if not, it has no hierarchies
    delegated           from the v2 hierarchy's root, the cgroup below which such a caller may make others; None: there is none. Its
                        hierarchies are of v2 alone
    """

    kernel: tuple[int, int]
    hierarchies: tuple[Hierarchy, ...]
    held_capabilities: int
    page_size: int = 4096
    bounding_capabilities: int = 2**64 - 1
    has_apparmor: bool = False
    has_selinux: bool = False
    resctrl: str | None = None
    caller: Unprivileged | None = None
    in_user_namespace: bool = False
    delegated: str | None = None
    makes_cgroups: bool = True

    @property
    def is_rootless(self) -> bool:
        """Whether mounts, devices and cgroups of the host are not the caller's to dispose of."""
        return self.caller is not None or self.in_user_namespace

    @property
    def is_unified(self) -> bool:
        """Whether every controller is on v2: there is no v1 hierarchy."""
        return all(hierarchy.is_v2 for hierarchy in self.hierarchies)


def without_cgroups(host: Host) -> Host:
    """The same, but that containers stay in their caller's cgroups."""
    return msgspec.structs.replace(host, hierarchies=(), delegated=None, makes_cgroups=False)


def parse_kernel(release: str) -> tuple[int, int]:
    """`6.1.0-23-amd64` is (6, 1)."""
    major, _, rest = release.partition(".")
    minor = ""
    for character in rest:
        if not character.isdigit():
            break
        minor += character
    return int(major), int(minor or 0)


def check_kernel(kernel: tuple[int, int]) -> None:
    """Raises UnsupportedHostError below Linux 5.14."""
    if kernel < MINIMUM_KERNEL:
        raise UnsupportedHostError(f"Linux {kernel[0]}.{kernel[1]} is too old: pyruntime needs "
                                   f"{MINIMUM_KERNEL[0]}.{MINIMUM_KERNEL[1]} or newer")


def parse_hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """The cgroup mounts of /proc/PID/mountinfo; of several mounts of one hierarchy the first."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, super_options = right.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        mount_point = _mount_point(left)
        if kind == "cgroup2":
            found.setdefault(("",), Hierarchy(mount_point, True))
            continue
        ignored = {"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "none"}
        controllers = tuple(option for option in super_options.split(",")
                            if option not in ignored and not option.startswith("release_agent="))
        if controllers:
            found.setdefault(controllers, Hierarchy(mount_point, False, controllers))
    return tuple(found.values())


def parse_resctrl(mountinfo: str) -> str | None:
    """The first mount point of resctrl of /proc/PID/mountinfo."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("resctrl "):
            return _mount_point(left)
    return None


def _mount_point(line: str) -> str:
    return line.split(" ")[4].encode("latin-1", "backslashreplace").decode("unicode_escape")


def parse_capabilities(status: str) -> tuple[int, int]:
    """The permitted and the bounding set of a /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return int(fields.get("CapPrm", "0"), 16), int(fields.get("CapBnd", "0"), 16)


def parse_drivers(devices: str) -> dict[tuple[str, int], str]:
    """Names by type (`b`, `c`) and major number, of /proc/devices."""
    found, type = {}, "c"
    for line in devices.splitlines():
        if line.endswith(" devices:"):
            type = line[0].lower()
        elif line.strip():
            major, name = line.split(maxsplit=1)
            found[type, int(major)] = name
    return found


def read_drivers() -> dict[tuple[str, int], str]:
    """Those that this kernel has by now."""
    with open("/proc/devices") as devices:
        return parse_drivers(devices.read())


def _has_apparmor() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled") as enabled:
            return enabled.read().strip() == "Y"
    except OSError:
        return False


def _has_selinux() -> bool:
    """Without a policy everything has the kernel's own label."""
    if not os.path.exists("/sys/fs/selinux/enforce"):
        return False
    try:
        with open("/proc/thread-self/attr/current") as label:
            return label.read().rstrip("\n\0") not in ("", "kernel")
    except OSError:
        return False


def read_host() -> Host:
    """The facts of this host. Raises UnsupportedHostError."""
    kernel = parse_kernel(os.uname().release)
    check_kernel(kernel)
    with open("/proc/self/mountinfo") as mountinfo:
        mounts = mountinfo.read()
    with open("/proc/thread-self/status") as status:
        held, bounding = parse_capabilities(status.read())
    resctrl = parse_resctrl(mounts) if " - resctrl " in mounts else None
    host = Host(kernel, parse_hierarchies(mounts), held, os.sysconf("SC_PAGESIZE"), bounding, _has_apparmor(), _has_selinux(), resctrl)
    in_user_namespace = is_in_user_namespace()
    if held >> _CAP_SYS_ADMIN & 1 and not in_user_namespace:
        return host
    return _rootless(host, in_user_namespace)


def is_in_user_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/user").st_ino != _FIRST_USER_NAMESPACE
    except OSError:  # a kernel without them
        return False


def _rootless(host: Host, in_user_namespace: bool) -> Host:
    with open("/proc/self/cgroup") as cgroup:
        own = parse_own_cgroup(cgroup.read())
    # a v1 hierarchy cannot be delegated safely (cgroups(7)), and nobody does
    hierarchies = tuple(hierarchy for hierarchy in host.hierarchies if hierarchy.is_v2)
    caller = None
    if not host.held_capabilities >> _CAP_SYS_ADMIN & 1:
        caller = Unprivileged(os.geteuid(), os.getegid(), program_path("newuidmap"), program_path("newgidmap"))
    return msgspec.structs.replace(host, hierarchies=hierarchies, caller=caller, in_user_namespace=in_user_namespace,
                                   delegated=_delegated(hierarchies, own) if own is not None else None)


def parse_own_cgroup(text: str) -> str | None:
    """The v2 cgroup in a /proc/PID/cgroup, from the hierarchy's root, '' for the root itself; None if there is none."""
    return next((line[3:].rstrip("/") for line in text.splitlines() if line.startswith("0::/")), None)


def _delegated(hierarchies: tuple[Hierarchy, ...], own: str) -> str | None:
    """The cgroup above the caller's, if that is the caller's to fill, since one with processes passes no controllers on; else its own."""
    mount_point = next((hierarchy.mount_point for hierarchy in hierarchies if hierarchy.is_v2), None)
    if mount_point is None:
        return None
    for path in dict.fromkeys((own.rpartition("/")[0], own)):
        if all(os.access(f"{mount_point}{path}{file}", os.W_OK, effective_ids=True) for file in ("/", "/cgroup.procs")):
            return path
    return None


def program_path(name: str) -> str | None:
    """None if it is not installed. Not by PATH, which is anybody's."""
    paths = (f"{directory}/{name}" for directory in PROGRAM_DIRECTORIES)
    return next((path for path in paths if os.access(path, os.X_OK)), None)
