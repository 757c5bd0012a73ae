"""What a failure in a user namespace comes from, where errno alone misleads: which switch of the host, line of a file, or field to change.

Imported where something has failed. Pure but for `explain` and what reads the host for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
from collections.abc import Mapping, Sequence

from pyruntime.errors import SetupError
from pyruntime.host import Host, Unprivileged
from pyruntime.plan.id_maps import GIDS, UIDS, host_id
from pyruntime.plan.without_cgroups import NO_DELEGATION
from pyruntime.spec import IDMapping, Linux, NamespaceType, Spec

_REFUSED = (errno.EPERM, errno.EACCES)
_LIMITED = {"user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time"}
SWITCHES = ("kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns",
            *(f"user/max_{name}_namespaces" for name in _LIMITED.values()))
# file systems that are a namespace's: its type, and where the host has one
_OWNED = {"sysfs": (NamespaceType.NETWORK, "/sys"), "proc": (NamespaceType.PID, "/proc"), "mqueue": (NamespaceType.IPC, "/dev/mqueue")}


def explain(error: SetupError, spec: Spec, host: Host) -> SetupError:
    """The same failure to make a container, with a hint in its detail where there is one."""
    if type(error) is not SetupError or (spec.linux.namespace(NamespaceType.USER) is None and not host.is_rootless):
        return error
    hint = _hint(error, spec, host)
    if hint is None:
        return error
    return SetupError(error.step, error.path, error.errno, error.json_path, f"{error.detail}: {hint}" if error.detail else hint)


def _hint(error: SetupError, spec: Spec, host: Host) -> str | None:
    if error.step == "set up the process" and error.detail == "clone3":
        if error.errno == errno.EACCES and host.is_rootless:
            return cgroup_hint(error.errno)
        status = _read_status()
        return namespace_hint(error.errno, read_switches(), status.get("Seccomp", "0") != "0", spec.linux)
    if error.step == "map child ids" and host.caller is not None:
        return _id_hint(error, spec.linux, host.caller)
    if error.step in ("make cgroup", "open cgroup", "enable controllers", "write file"):
        return cgroup_hint(error.errno) if host.is_rootless else None
    hint = step_hint(error, spec)
    if hint is None and error.errno in _REFUSED and host.caller is not None:
        return apparmor_hint(read_switches())
    return hint


def read_switches() -> dict[str, str]:
    """Values of files below /proc/sys, as far as they are there."""
    found = {}
    for name in SWITCHES:
        with contextlib.suppress(OSError), open(f"/proc/sys/{name}") as file:
            found[name] = file.read().strip()
    return found


def _read_status() -> dict[str, str]:
    with open("/proc/thread-self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def namespace_hint(number: int, switches: Mapping[str, str], is_filtered: bool, linux: Linux) -> str | None:
    """Why the kernel makes no user namespace (user_namespaces(7), namespaces(7)).

    switches      as of read_switches
    is_filtered   whether the caller is under a filter of system calls
    """
    if number == errno.ENOSPC:
        return _limit_hint(switches, linux)
    if number == errno.EINVAL and "user/max_user_namespaces" not in switches:
        return "this kernel has no user namespaces"
    if number == errno.ENOSYS and is_filtered:
        return "the filter of system calls that the caller is under, as of a container, does not know it"
    if number not in _REFUSED:
        return None
    if switches.get("kernel/unprivileged_userns_clone") == "0":
        return "kernel.unprivileged_userns_clone is 0, so that only root may make user namespaces"
    hint = apparmor_hint(switches)
    if hint is None and is_filtered:
        return "the filter of system calls that the caller is under, as of a container, may forbid user namespaces"
    return hint or "no user namespace is made in a chroot, nor where the caller's ids are not mapped in its own"


def _limit_hint(switches: Mapping[str, str], linux: Linux) -> str:
    new = [str(namespace.type) for namespace in linux.namespaces if not namespace.path]
    for name in sorted(new, key=lambda name: name != "user"):
        if switches.get(f"user/max_{_LIMITED[name]}_namespaces") == "0":
            return f"user.max_{_LIMITED[name]}_namespaces is 0, so that no {name} namespace can be made"
    return "there are as many as user.max_user_namespaces or another limit of the kind allows, here or further up, or they are nested too deep"


def apparmor_hint(switches: Mapping[str, str]) -> str | None:
    """There AppArmor lets a user namespace be made, and then nothing be done in it."""
    if switches.get("kernel/apparmor_restrict_unprivileged_userns") in (None, "0"):
        return None
    return ("kernel.apparmor_restrict_unprivileged_userns is 1, so that in a user namespace AppArmor grants capabilities only to programs "
            "whose profile allows `userns`")


def cgroup_hint(number: int) -> str | None:
    """Why a cgroup cannot be made, joined or limited without privileges."""
    if number in (*_REFUSED, errno.EROFS):
        return NO_DELEGATION
    if number in (errno.ENOENT, errno.EBUSY):
        return "the controller is not passed on to this cgroup: it has to be delegated, too, and no process may be in the cgroup above"
    return None


def step_hint(error: SetupError, spec: Spec) -> str | None:
    """By what was being done in the user namespace."""
    is_refused = error.errno in _REFUSED
    if error.step == "new filesystem":
        return filesystem_hint(error, spec)
    if error.step == "open tree" and error.errno == errno.EINVAL:
        return "without privileges a mount cannot be copied without what is mounted below it: rbind instead of bind can"
    if not is_refused:
        return None
    return {
        "join namespace": "only what the container's own user namespace owns can be joined: that one has to be joined, too",
        "set mount attributes": "in a user namespace a mount keeps what its owner has set: ro, nosuid, nodev, noexec, and access times",
        "raise hard limit": "only root of the host may raise a limit",
        "set identity": "this user namespace denies setgroups" if error.detail == "setgroups" else None,
    }.get(error.step)


def filesystem_hint(error: SetupError, spec: Spec) -> str | None:
    """Why a file system cannot be mounted in a user namespace."""
    place = re.fullmatch(r"\$\.mounts\[(\d+)\]", error.json_path or "")
    if place is None:
        return None
    mount = spec.mounts[int(place[1])]
    if error.errno == errno.EINVAL:
        return _unmapped_hint(mount.options, spec.linux)
    if error.errno not in _REFUSED:
        return None
    if mount.type not in _OWNED:
        return f"the kernel has no {mount.type} in user namespaces, or not with these options"
    type, path = _OWNED[mount.type]
    namespace = spec.linux.namespace(type)
    if namespace is None or namespace.path:
        return (f"{mount.type} takes a {type} namespace of the container's user namespace; without one, {path} of the host can be bound "
                'instead (type "none", options "rbind", "rro")')
    return (f"parts of the caller's own {path} are covered, as in a container, and would not be in a new one; {path} can be bound instead "
            '(type "none", option "rbind")')


def _unmapped_hint(options: Sequence[str], linux: Linux) -> str | None:
    for option in options:
        name, _, id = option.partition("=")
        mappings = {"uid": linux.uid_mappings, "gid": linux.gid_mappings}.get(name)
        if mappings and id.isascii() and id.isdigit() and host_id(mappings, int(id)) is None:
            return f"{option} is not mapped in the container's user namespace"
    return None


def _id_hint(error: SetupError, linux: Linux, caller: Unprivileged) -> str | None:
    file, mappings, own = {UIDS: ("/etc/subuid", linux.uid_mappings, caller.uid),
                           GIDS: ("/etc/subgid", linux.gid_mappings, caller.gid)}[error.json_path or UIDS]
    if _read_status().get("NoNewPrivs") == "1":
        return "the caller has no_new_privs, so that the program has no privileges either"
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()} has no name in /etc/passwd, without which it may map nobody's ids"
    text = ""
    with contextlib.suppress(OSError), open(file, errors="replace") as lines:
        text = lines.read()
    return subid_hint(file, text, name, caller.uid, mappings, own)


def subid_hint(file: str, text: str, name: str, uid: int, mappings: Sequence[IDMapping], own: int) -> str | None:
    """Which line of /etc/subuid or /etc/subgid (subuid(5)), whose text this is, is missing: None if none is. own: an id that needs no line."""
    ranges = []
    for line in text.splitlines():
        owner, _, range_text = line.partition(":")
        first, _, count = range_text.partition(":")
        if owner in (name, str(uid)) and first.isdigit() and count.isdigit():
            ranges.append((int(first), int(first) + int(count)))
    for mapping in mappings:
        end = mapping.host_id + mapping.size
        alone = mapping.size == 1 and mapping.host_id == own
        if not alone and not any(first <= mapping.host_id and end <= last for first, last in ranges):
            return f"{file} has no line that gives ids {mapping.host_id} to {end - 1} to {name!r}: `{name}:{mapping.host_id}:{mapping.size}`"
    return None
