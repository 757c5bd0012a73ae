"""The kernel: its age, the calls that every container is made with, and what few need."""

from __future__ import annotations

import errno
import os

from pyruntime.doctor.finding import Finding, Sight, Topic
from pyruntime.doctor.probes import SYSTEM_CALLS, Probes
from pyruntime.host import MINIMUM_KERNEL, parse_kernel
from pyruntime.plan.seccomp import WAIT_KILLABLE_KERNEL

_NEEDED = ".".join(map(str, MINIMUM_KERNEL))
_FILE_SYSTEMS = {"proc": "no container that mounts /proc can be made", "tmpfs": "no container that mounts /dev can be made",
                 "devpts": "containers can have no terminals", "sysfs": "no container that mounts /sys can be made",
                 "mqueue": "no container that mounts /dev/mqueue can be made",
                 "overlay": "engines that keep images in layers have to copy them"}
_UNCONFINED = "the engine that this runs under has to allow it, as docker run --security-opt seccomp=unconfined does"


def words_of(number: int) -> str:
    """`EPERM: Operation not permitted`."""
    return f"{errno.errorcode.get(number, f'errno {number}')}: {os.strerror(number)}"


def kernel(sight: Sight, probes: Probes, is_privileged: bool) -> list[Finding]:
    """is_privileged: the caller has CAP_SYS_ADMIN."""
    topic = Topic("kernel")
    release = sight.read("/proc/sys/kernel/osrelease") or os.uname().release
    version = parse_kernel(release)
    if version < MINIMUM_KERNEL:
        topic.missing("release", f"Linux {release}", f"no container can be made: it takes Linux {_NEEDED} or newer",
                      "boot a newer kernel; on Debian 11: apt install -t bullseye-backports linux-image-amd64", is_required=True)
    else:
        topic.ok("release", f"Linux {release}")
    _calls(topic, probes, is_privileged)
    _memfd(topic, probes)
    _filters(topic, sight, probes, version)
    present = {line.split()[-1] for line in (sight.read("/proc/filesystems") or "").splitlines() if line.strip()}
    for name, follows in _FILE_SYSTEMS.items():
        if present and name not in present:
            topic.limited(f"file system {name}", "is not loaded", f"{follows} unless the kernel finds its module", f"modprobe {name}")
    if present and present.issuperset(_FILE_SYSTEMS):
        topic.ok("file systems", ", ".join(_FILE_SYSTEMS))
    return topic.findings


def _calls(topic: Topic, probes: Probes, is_privileged: bool) -> None:
    refused = (errno.ENOSYS, errno.EPERM) if is_privileged else (errno.ENOSYS,)
    found = {name: probes.system_call(name) for name in SYSTEM_CALLS}
    lacking = {name: number for name, number in found.items() if number in refused}
    if lacking:
        names = ", ".join(f"{name} ({errno.errorcode[number]})" for name, number in lacking.items())
        topic.missing("system calls", f"refused: {names}", "no container can be made: a filter that the caller is under does not let these "
                      "pass", _UNCONFINED, is_required=True)
    else:
        topic.ok("system calls", ", ".join(found))
    number = probes.pidfd()
    if number:
        topic.missing("pidfds", words_of(number), "no container can be made: processes are held by descriptors", _UNCONFINED, is_required=True)
    else:
        topic.ok("pidfds", "processes can be held and signalled by them")


def _memfd(topic: Topic, probes: Probes) -> None:
    number = probes.executable_memfd()
    if number:
        topic.missing("executable memfds", words_of(number), "no container can be made: its first program is in one",
                      "sysctl vm.memfd_noexec=1", is_required=True)
    else:
        topic.ok("executable memfds", "the init of containers can be executed from memory")


def _filters(topic: Topic, sight: Sight, probes: Probes, version: tuple[int, int]) -> None:
    actions = (sight.read("/proc/sys/kernel/seccomp/actions_avail") or "").split()
    library = f"libseccomp {probes.libseccomp()}"
    if not actions:
        topic.missing("seccomp", "this kernel has no filters of system calls", "a bundle with linux.seccomp, as engines make them, fails",
                      "a kernel with CONFIG_SECCOMP_FILTER; or without them, as docker run --security-opt seccomp=unconfined")
    elif "user_notif" not in actions or version < WAIT_KILLABLE_KERNEL:
        lacking = "SCMP_ACT_NOTIFY" if "user_notif" not in actions else "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
        topic.limited("seccomp", f"{library}; without {lacking}", f"a filter with {lacking} fails", "boot a newer kernel: 5.19 has both")
    else:
        topic.ok("seccomp", f"{library}; {' '.join(actions)}")
