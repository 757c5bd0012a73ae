"""Cgroups: their version, controllers, and whether the caller may make some."""

from __future__ import annotations

from pyruntime.doctor.finding import Finding, Sight, Topic
from pyruntime.host import Hierarchy, Host

_WANTED = {"cpu": "cpu.shares and quotas", "cpuset": "the CPUs that a container may use", "memory": "limits of memory",
           "pids": "limits of processes", "io": "limits of block I/O", "hugetlb": "limits of huge pages"}
_OF_V1 = {"io": "blkio"}
_UNIFY = ("boot with systemd.unified_cgroup_hierarchy=1, or without systemd with cgroup_no_v1=all: "
          "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && update-grub && reboot")
_DELEGATE = ("mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' > "
             "/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload, and log in again")
_SCOPE = "log in where systemd runs, and call it in a unit of the user's: systemd-run --user --scope pyruntime ..."


def cgroups(sight: Sight, host: Host, all_hierarchies: tuple[Hierarchy, ...]) -> list[Finding]:
    """all_hierarchies: of this host; the host has those that the caller could use."""
    topic = Topic("cgroups")
    _version(topic, sight, all_hierarchies)
    if host.is_rootless:
        _delegation(topic, sight, host, all_hierarchies)
    elif all_hierarchies:
        present = _controllers(sight, all_hierarchies)
        _tell_controllers(topic, present, _remedy(sight, present, any(not hierarchy.is_v2 for hierarchy in all_hierarchies)))
        _writable(topic, sight, all_hierarchies)
    return topic.findings


def _version(topic: Topic, sight: Sight, hierarchies: tuple[Hierarchy, ...]) -> None:
    v2 = [hierarchy for hierarchy in hierarchies if hierarchy.is_v2]
    if not hierarchies:
        topic.limited("version", "no cgroups are mounted", "containers have no limits, cannot be paused, and are known by their processes "
                      "alone", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    elif len(v2) == len(hierarchies):
        topic.ok("version", f"v2, at {v2[0].mount_point}")
    elif v2:
        topic.limited("version", f"hybrid: v1 with its controllers, v2 at {v2[0].mount_point} without",
                      "linux.resources.unified is refused for controllers of v1, and who is not root gets no limits", _UNIFY)
    else:
        topic.limited("version", "v1", "linux.resources.unified is refused, and who is not root gets no cgroups", _UNIFY)
    _group_kill(topic, sight, v2, is_unified=bool(v2) and len(v2) == len(hierarchies))


def _group_kill(topic: Topic, sight: Sight, v2: list[Hierarchy], is_unified: bool) -> None:
    """Files that only cgroups below the root have."""
    if not is_unified:
        topic.limited("memory.oom.group", "of cgroup v2 alone", "when memory runs out the kernel kills single processes of a container", _UNIFY)
        return
    top = v2[0].mount_point
    below = [name for name in sight.names(top) if sight.exists(f"{top}/{name}/cgroup.procs")]
    if any(sight.exists(f"{top}/{name}/memory.oom.group") for name in below):
        topic.ok("memory.oom.group", "a container can be killed as a whole when memory runs out")
    elif below:
        topic.limited("memory.oom.group", "no cgroup has it", "when memory runs out the kernel kills single processes of a container",
                      f"echo +memory > {top}/cgroup.subtree_control")


def _controllers(sight: Sight, hierarchies: tuple[Hierarchy, ...]) -> set[str]:
    found: set[str] = set()
    for hierarchy in hierarchies:
        if hierarchy.is_v2:
            found.update((sight.read(f"{hierarchy.mount_point}/cgroup.controllers") or "").split())
        else:
            found.update(hierarchy.controllers)
    return found


def _tell_controllers(topic: Topic, present: set[str], remedy: str) -> None:
    lacking = [name for name in _WANTED if name not in present and _OF_V1.get(name, name) not in present]
    if lacking:
        topic.limited("controllers", f"without {', '.join(lacking)}", f"refused: {', '.join(_WANTED[name] for name in lacking)}", remedy)
    else:
        topic.ok("controllers", " ".join(sorted(present)))


def _remedy(sight: Sight, present: set[str], has_v1: bool) -> str:
    """For controllers that are not there: of /proc/cgroups, where the last column says whether they were switched off at the start."""
    lines = [line.split() for line in (sight.read("/proc/cgroups") or "").splitlines() if line[:1] != "#"]
    if any(words[0] == "memory" and words[-1] == "0" for words in lines):
        return "boot with cgroup_enable=memory"
    unmounted = [words[0] for words in lines if words[0] in (*_WANTED, *_OF_V1.values()) and words[-1] == "1" and words[0] not in present]
    if has_v1 and unmounted:
        at = f"/sys/fs/cgroup/{unmounted[0]}"
        return f"mkdir -p {at} && mount -t cgroup -o {unmounted[0]} cgroup {at}"
    return "boot a kernel that has them; /proc/cgroups lists what this one has"


def _writable(topic: Topic, sight: Sight, hierarchies: tuple[Hierarchy, ...]) -> None:
    closed = [hierarchy.mount_point for hierarchy in hierarchies if not sight.is_writable(hierarchy.mount_point)]
    if closed:
        topic.missing("access", f"read-only: {', '.join(closed)}", "no container can be made: each has cgroups of its own",
                      "mount -o remount,rw " + closed[0] + "; in a container of Docker's: docker run --privileged --cgroupns=private",
                      is_required=True)
    else:
        topic.ok("access", "cgroups can be made")


def _delegation(topic: Topic, sight: Sight, host: Host, all_hierarchies: tuple[Hierarchy, ...]) -> None:
    mount_point = next((hierarchy.mount_point for hierarchy in host.hierarchies if hierarchy.is_v2), None)
    is_unified = all(hierarchy.is_v2 for hierarchy in all_hierarchies)
    if host.delegated is None or mount_point is None:
        topic.limited("delegation", "no v2 cgroup is this user's to fill", "a bundle with limits or a cgroupsPath is refused, and containers "
                      "cannot be paused", _SCOPE if mount_point is not None and is_unified else _UNIFY)
        return
    place = f"{mount_point}{host.delegated}"
    present = set((sight.read(f"{place}/cgroup.controllers") or "").split())
    topic.ok("delegation", f"cgroups can be made below {place}")
    _tell_controllers(topic, present, _DELEGATE)
