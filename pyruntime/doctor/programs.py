"""What containers can use besides the kernel: programs, systemd, security modules, hardware."""

from __future__ import annotations

import shutil

from pyruntime.doctor.finding import Finding, Sight, Topic
from pyruntime.doctor.probes import Probes
from pyruntime.host import Host


def programs(host: Host, probes: Probes) -> list[Finding]:
    """Those that commands start, and systemd."""
    topic = Topic("programs")
    criu = probes.criu(not host.is_rootless)
    if criu is None:
        topic.missing("criu", "is not installed", "no container can be checkpointed or restored", "apt install criu")
    elif criu.complaint is not None:
        topic.limited("criu", f"{criu.path}, version {criu.version}, says: {criu.complaint}", "checkpoints may fail",
                      "a newer criu, which knows this kernel")
    else:
        topic.ok("criu", f"{criu.path}, version {criu.version}")
    if shutil.which("ps") is None:
        topic.limited("ps", "is not installed", "pyruntime ps makes no table", "apt install procps, or pyruntime ps --format json")
    else:
        topic.ok("ps", "makes the table of pyruntime ps")
    why = probes.systemd()
    if why is not None and host.is_rootless:
        topic.missing("systemd", why, "--systemd-cgroup is refused, which podman passes where its cgroup manager is systemd",
                      "apt install systemd dbus-user-session and log in, or loginctl enable-linger; or podman --cgroup-manager=cgroupfs")
    elif why is not None:
        topic.missing("systemd", why, "--systemd-cgroup is refused, which engines pass where their cgroup manager is systemd",
                      "apt install systemd dbus and boot with it; or an engine's cgroup manager cgroupfs: --cgroup-manager=cgroupfs (podman), "
                      "--exec-opt native.cgroupdriver=cgroupfs (dockerd)")
    elif host.is_rootless:
        topic.ok("systemd", "the user's own manager answers: --systemd-cgroup works")
    else:
        topic.ok("systemd", "the manager answers: --systemd-cgroup works")
    return topic.findings


def security(host: Host, sight: Sight) -> list[Finding]:
    """Security modules, and hardware that few have."""
    topic = Topic("modules")
    for name, has, field, remedy in (
            ("AppArmor", host.has_apparmor, "process.apparmorProfile", "boot with apparmor=1 security=apparmor, and apt install apparmor"),
            ("SELinux", host.has_selinux, "process.selinuxLabel and linux.mountLabel",
             "boot with selinux=1 security=selinux, and load a policy: apt install selinux-basics selinux-policy-default && selinux-activate")):
        if has:
            topic.ok(name, "is in force")
        else:
            topic.missing(name, "is not in force", f"a bundle with {field} is refused", remedy)
    if host.resctrl is not None:
        topic.ok("resctrl", f"is mounted at {host.resctrl}")
    elif any(line.split()[-1:] == ["resctrl"] for line in (sight.read("/proc/filesystems") or "").splitlines()):
        topic.missing("resctrl", "is not mounted", "a bundle with linux.intelRdt is refused", "mount -t resctrl resctrl /sys/fs/resctrl")
    else:
        topic.missing("resctrl", "this machine or kernel has none", "a bundle with linux.intelRdt is refused")
    return topic.findings
