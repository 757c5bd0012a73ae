"""The caller: what it may do, in which namespaces, and whose ids it may map."""

from __future__ import annotations

import os
import pwd

from pyruntime.doctor.finding import Finding, Sight, Topic
from pyruntime.doctor.kernel import words_of
from pyruntime.doctor.probes import Probes
from pyruntime.errors import SetupError
from pyruntime.host import Host, program_path
from pyruntime.plan.flags import CAPABILITIES
from pyruntime.runtimes.hints import SWITCHES, apparmor_hint, namespace_hint
from pyruntime.spec import Linux
from pyruntime.state.store import DEFAULT_ROOT, root_for

_FEW_DESCRIPTORS = 1024
_PRIVILEGED = "docker run --privileged, or --cap-add"
# of root: (whether no container can be made without it, what follows)
_NEEDED = {
    "CAP_SYS_RESOURCE": (False, "rlimits cannot be raised above the caller's own, nor oomScoreAdj be lowered"),
    "CAP_MKNOD": (True, "no container without a user namespace can be made: it has devices"),
    "CAP_NET_ADMIN": (True, "no container with a network namespace can be made: its loopback device cannot be started"),
    "CAP_SETUID": (False, "programs cannot run as another user"), "CAP_SETGID": (False, "programs cannot run with another group"),
    "CAP_SETPCAP": (True, "no container that is given capabilities can be made: its bounding set cannot be changed"),
    "CAP_CHOWN": (False, "devices and terminals cannot be given to another user"),
    "CAP_DAC_OVERRIDE": (False, "files of others cannot be used to make a container"),
    "CAP_KILL": (False, "programs of another user cannot be signalled"),
    "CAP_SYS_PTRACE": (False, "exec fails where a container's program runs as another user"),
    "CAP_SYS_NICE": (False, "a scheduler, or a lower nice value, cannot be set")}
_SWITCH_REMEDIES = (("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
                    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
                    ("kernel/apparmor_restrict_unprivileged_userns", "1",
                     "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile for the Python interpreter that says `userns,`"))


def privileges(host: Host, sight: Sight, probes: Probes, root: str) -> list[Finding]:
    """root: of the state, as a runtime is given it."""
    topic = Topic("privileges")
    if not host.is_rootless:
        _capabilities(topic, host)
    status = dict(line.split(":\t", 1) for line in (sight.read("/proc/self/status") or "").splitlines() if ":\t" in line)
    if status.get("NoNewPrivs", "0") == "1" and host.caller is not None:
        topic.limited("no_new_privs", "is set", "newuidmap and newgidmap have no privileges, so that only the own ids can be mapped",
                      "call it from a session that has it not: a unit without NoNewPrivileges=yes")
    if status.get("Seccomp", "0") != "0":
        topic.limited("filter", "the caller is under a filter of system calls", "what it forbids, containers cannot do either",
                      "docker run --security-opt seccomp=unconfined")
    soft, hard = probes.limit_of_descriptors()
    if 0 <= soft < _FEW_DESCRIPTORS:
        topic.limited("RLIMIT_NOFILE", f"{soft}, at most {hard}", "a program that makes many containers runs out of descriptors",
                      f"ulimit -n {hard}" if hard > soft else "LimitNOFILE=65536 in its unit, or a line in /etc/security/limits.conf")
    else:
        topic.ok("RLIMIT_NOFILE", f"{_limit(soft)}, at most {_limit(hard)}")
    _state(topic, host, sight, root)
    return topic.findings


def _limit(number: int) -> str:
    return "unlimited" if number < 0 else str(number)


def _capabilities(topic: Topic, host: Host) -> None:
    lacking = [name for name in _NEEDED if not host.held_capabilities >> CAPABILITIES[name] & 1]
    for name in lacking:
        is_required, follows = _NEEDED[name]
        remedy = f"{_PRIVILEGED}={name.removeprefix('CAP_')}"
        if is_required:
            topic.missing(name, "is not held", follows, remedy, is_required=True)
        else:
            topic.limited(name, "is not held", follows, remedy)
    kept = [name for name, number in CAPABILITIES.items() if not host.bounding_capabilities >> number & 1 and name not in lacking]
    if kept:
        topic.limited("bounding set", f"without {', '.join(kept)}", "containers that are to have these do not, and are warned of", _PRIVILEGED)
    if not lacking and not kept:
        topic.ok("capabilities", "all that containers are made with")


def _state(topic: Topic, host: Host, sight: Sight, root: str) -> None:
    try:
        directory = os.path.abspath(root_for(root, host.is_rootless))
    except SetupError as error:
        topic.missing("state directory", str(error), "no container can be made", "export XDG_RUNTIME_DIR=/run/user/$(id -u) after "
                      "loginctl enable-linger, or another directory with --root", is_required=True)
        return
    at = directory
    while not sight.exists(at) and at != "/":
        at = os.path.dirname(at)
    if sight.is_writable(at):
        topic.ok("state directory", directory if at == directory else f"{directory} can be made")
    else:
        topic.missing("state directory", f"{at} cannot be written to", "no container can be made",
                      f"another directory with --root; {DEFAULT_ROOT} is root's", is_required=True)


def namespaces(host: Host, sight: Sight, probes: Probes) -> list[Finding]:
    """By making some."""
    topic = Topic("namespaces")
    switches = {name: value for name in SWITCHES if (value := sight.read(f"/proc/sys/{name}")) is not None}
    tried = probes.namespaces(host.caller is not None)
    if tried is None:
        topic.limited("probe", "no Python interpreter could be started to try", "nothing is known of namespaces")
        return topic.findings
    is_filtered = "Seccomp:\t0" not in (sight.read("/proc/self/status") or "Seccomp:\t0")
    if host.caller is not None:
        _for_user(topic, tried, switches, is_filtered)
    else:
        _for_root(topic, tried)
        _forbidden_for_users(topic, switches, tried.get("user", 0))
    for name in ("network", "ipc", "uts", "cgroup", "time"):
        number = tried.get(name, 0)
        if number and not tried.get("user", 0):
            topic.limited(f"{name} namespaces", words_of(number), f"containers with a {name} namespace of their own fail",
                          f"sysctl user.max_{name.replace('network', 'net')}_namespaces=15000" if name != "time" else
                          "boot a kernel with CONFIG_TIME_NS")
    works = [name for name in ("mount", "pid", "network", "ipc", "uts", "cgroup", "time", "user") if tried.get(name) == 0]
    if works:
        topic.ok("tried", f"new ones work: {', '.join(works)}")
    return topic.findings


def _for_user(topic: Topic, tried: dict[str, int], switches: dict[str, str], is_filtered: bool) -> None:
    number = tried.get("user", 0)
    if number:
        hint = namespace_hint(number, switches, is_filtered, Linux()) or words_of(number)
        topic.missing("user namespaces", words_of(number), f"no container can be made without root: {hint}", _switch_remedy(switches),
                      is_required=True)
    elif tried.get("change mounts", 0):
        hint = apparmor_hint(switches) or words_of(tried["change mounts"])
        topic.missing("user namespaces", "they can be made, and nothing be mounted in them", f"no container can be made without root: {hint}",
                      _switch_remedy(switches), is_required=True)
    elif tried.get("mount proc", 0):
        topic.limited("proc in user namespaces", words_of(tried["mount proc"]), "a bundle that mounts proc fails: parts of the caller's own "
                      "/proc are covered, as in a container",
                      'bind it: {"destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"]}')
    else:
        topic.ok("user namespaces", "can be made, and filled, without privileges")


def _for_root(topic: Topic, tried: dict[str, int]) -> None:
    for name in ("mount", "pid"):
        if tried.get(name, 0):
            topic.missing(f"{name} namespaces", words_of(tried[name]), "no container can be made",
                          f"sysctl user.max_{'mnt' if name == 'mount' else name}_namespaces=15000; or CAP_SYS_ADMIN: {_PRIVILEGED}=SYS_ADMIN",
                          is_required=True)
    mapped = {name.removeprefix("map ids of "): number for name, number in tried.items() if name.startswith("map ids of ")}
    failed = {place: number for place, number in mapped.items() if number}
    if failed:
        topic.limited("id-mapped mounts", "; ".join(f"{place}: {words_of(number)}" for place, number in failed.items()),
                      "mounts of these file systems with idmap or uidMappings fail",
                      "have volumes on ext4, xfs or btrfs, or on tmpfs from Linux 6.3 on" if len(failed) < len(mapped) else None)
    elif mapped:
        topic.ok("id-mapped mounts", f"of {', '.join(mapped)}")


def _forbidden_for_users(topic: Topic, switches: dict[str, str], number: int) -> None:
    remedy = _switch_remedy(switches)
    if number or remedy is not None:
        found = words_of(number) if number else next(f"{name.replace('/', '.')} is {value}"
                                                     for name, value, text in _SWITCH_REMEDIES if text == remedy)
        topic.limited("user namespaces", found, "containers with a user namespace fail" if number else "only root can make containers", remedy)
    else:
        topic.ok("user namespaces", "can be made, by other users too")


def _switch_remedy(switches: dict[str, str]) -> str | None:
    return next((remedy for name, value, remedy in _SWITCH_REMEDIES if switches.get(name) == value), None)


def mapped_ids(host: Host, sight: Sight) -> list[Finding]:
    """Of others than the caller's own: for who is not root."""
    topic = Topic("ids")
    if host.caller is None:
        return []
    try:
        name = pwd.getpwuid(host.caller.uid).pw_name
    except KeyError:
        topic.limited("user name", f"uid {host.caller.uid} has none", "only the own ids can be mapped", "an entry in /etc/passwd")
        return topic.findings
    for program, file in (("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")):
        if program_path(program) is None:
            topic.limited(program, "is not installed", "containers can have the own ids alone", "apt install uidmap")
        else:
            topic.ok(program, str(program_path(program)))
        ranges = [line for line in (sight.read(file) or "").splitlines() if line.partition(":")[0] in (name, str(host.caller.uid))]
        if ranges:
            topic.ok(file, ", ".join(ranges))
        else:
            kind = "uids" if file.endswith("uid") else "gids"
            topic.limited(file, f"has no line for {name!r}", "containers can have the own ids alone",
                          f"usermod --add-sub{kind} 100000-165535 {name}, as root")
    return topic.findings
