"""A `process` object: identity, capabilities, limits, execution."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.plan import flags
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.operations import Slot
from pyruntime.plan.seccomp import JSON_PATH, Filter
from pyruntime.spec import Process

DEFAULT_UMASK = 0o022  # as runc and crun; the specification leaves it to the runtime


def capability_bits(names: tuple[str, ...]) -> int:
    """The known names as a bit set; the unknown are warned of (plan/warnings.py) and left out, as the specification asks."""
    bits = 0
    for name in names:
        number = flags.CAPABILITIES.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def environment(process: Process) -> tuple[str, ...]:
    """One variable of a name, the last one: the first is what getenv(3) finds, and the last what a shell takes. An empty HOME is none."""
    by_name = {variable.partition("=")[0]: variable for variable in process.env}
    return tuple(variable for variable in by_name.values() if variable != "HOME=")


def apparmor_profile(process: Process, json_path: str, has_apparmor: bool) -> str | None:
    """The profile that the program is to run under; None where it runs under none. Raises UnsupportedFieldError."""
    profile = process.apparmor_profile
    if not profile or (profile == "unconfined" and not has_apparmor):
        return None
    if not has_apparmor:
        raise UnsupportedFieldError(None, f"{json_path}.apparmorProfile", f"is {profile!r}, but AppArmor is not enabled on this host")
    return profile


def selinux_label(process: Process, json_path: str, has_selinux: bool) -> str | None:
    """The label that the program is to run with; None where none is asked for. Raises UnsupportedFieldError."""
    label = process.selinux_label
    if label and not has_selinux:
        raise UnsupportedFieldError(None, f"{json_path}.selinuxLabel", f"is {label!r}, but SELinux is not enabled on this host")
    return label or None


def join_keyring(draft: Draft, name: str, json_path: str, label: str | None, proc: Slot | None) -> None:
    """Of the container's id. What is executed with a label can reach only what has one; execution takes this setting back."""
    if label is not None and proc is not None:
        draft.init.append(op.WriteProc(f"{json_path}.selinuxLabel", b"self/attr/keycreate", label.encode(), proc))
    draft.init.append(op.JoinSessionKeyring("", f"_ses.{name}".encode()))


def set_selinux_label(draft: Draft, json_path: str, label: str | None, proc: Slot | None) -> None:
    """proc: as below."""
    if label is not None and proc is not None:
        draft.init.append(op.WriteProc(f"{json_path}.selinuxLabel", b"self/attr/exec", label.encode(), proc))


def set_apparmor_profile(draft: Draft, json_path: str, profile: str | None, proc: Slot | None) -> None:
    """proc: a procfs of the runtime's own. What the image shows at /proc could take the word and do nothing."""
    if profile is not None and proc is not None:
        draft.init.append(op.SetApparmorProfile(f"{json_path}.apparmorProfile", f"exec {profile}".encode(), proc, profile))


def limit_process(draft: Draft, process: Process, json_path: str, in_user_namespace: bool) -> None:
    """What is done about the process from outside."""
    if process.oom_score_adj is not None:
        draft.child.append(op.WriteChildProc(f"{json_path}.oomScoreAdj", b"oom_score_adj", b"%d" % process.oom_score_adj))
    if in_user_namespace:
        for i, limit in enumerate(process.rlimits):
            draft.child.append(op.RaiseHardLimit(f"{json_path}.rlimits[{i}].hard", flags.RLIMITS[limit.type], limit.hard))


def take_identity(draft: Draft, process: Process, json_path: str, *, make_cwd: bool, setgroups: int,
                  keeps: int = 0) -> None:
    """Everything up to, and without, execution. setgroups: SETGROUPS_... of plan/flags.py. keeps: capabilities that stay permitted besides,
    but not effective."""
    user = process.user
    init = draft.init
    init.append(op.ChangeDirectory(f"{json_path}.cwd", process.cwd.encode(), int(make_cwd)))
    init.append(op.OwnStdio(f"{json_path}.user.uid", user.uid))
    for i, limit in enumerate(process.rlimits):
        init.append(op.SetRlimit(f"{json_path}.rlimits[{i}]", flags.RLIMITS[limit.type], limit.soft, limit.hard))
    sets = process.capabilities
    if sets is not None:
        init.append(op.SetBoundingCapabilities(f"{json_path}.capabilities.bounding", capability_bits(sets.bounding)))
    groups = user.additional_gids
    if groups and setgroups == flags.SETGROUPS_DENIED:
        raise InvalidBundleError(None, f"{json_path}.user.additionalGids", "cannot be set: this user namespace denies setgroups, as the kernel "
                                 "demands where a caller without privileges maps its own gid; newgidmap maps others without that")
    packed = struct.pack(f"={len(groups)}I", *groups)
    init.append(op.SetIdentity(f"{json_path}.user", packed, len(packed), user.uid, user.gid, setgroups))
    if sets is not None:
        path = f"{json_path}.capabilities"
        # the kernel refuses an inheritable one that is not in the bounding set, and the specification refuses none
        init.append(op.SetCapabilities(path, capability_bits(sets.effective), capability_bits(sets.permitted) | keeps,
                                       capability_bits(sets.inheritable) & capability_bits(sets.bounding)))
        init.append(op.SetAmbientCapabilities(f"{path}.ambient", capability_bits(sets.ambient)))
    elif user.uid != 0:
        # keeping capabilities over the change of uid was for the sets; without them the usual rule holds
        init.append(op.SetCapabilities("", 0, keeps, 0))
    if process.no_new_privileges:
        init.append(op.SetNoNewPrivileges(f"{json_path}.noNewPrivileges"))
    if not any(variable.startswith("HOME=") for variable in environment(process)):
        # with the program's own rights: /etc/passwd may be a link to what reading takes away, as /proc/kmsg
        init.append(op.SetHome("", user.uid))
    init.append(op.SetUmask(f"{json_path}.user.umask", DEFAULT_UMASK if user.umask is None else user.umask))


def console(process: Process, json_path: str, binds_console: bool) -> list[op.Operation]:
    """The pseudoterminal, where one is asked for; to be opened while /dev can still be written."""
    if not process.terminal:
        return []
    size = process.console_size
    return [op.OpenConsole(f"{json_path}.terminal", size.width if size else 0, size.height if size else 0, process.user.uid,
                           int(binds_console))]


def find(draft: Draft, process: Process, json_path: str) -> None:
    """Find the program with its own rights, before anybody says start."""
    paths = (variable for variable in environment(process) if variable.startswith("PATH="))
    draft.init.append(op.FindProgram(f"{json_path}.args", tuple(a.encode(errors="surrogateescape") for a in process.args[:1]),
                                     tuple(v.encode(errors="surrogateescape") for v in paths)))


def execute(draft: Draft, process: Process, json_path: str, filter: Sequence[op.Operation] = ()) -> None:
    """The last operations. filter: what installs one, which may then forbid to tell of a missing program."""
    if filter:
        find(draft, process, json_path)
        draft.init += filter
    draft.init.append(op.ExecuteProgram(f"{json_path}.args", tuple(a.encode(errors="surrogateescape") for a in process.args),
                                        tuple(v.encode(errors="surrogateescape") for v in environment(process))))


def capabilities_for(process: Process, filter: Filter | None) -> tuple[int, int]:
    """What has to stay permitted until the filter is installed, and bits of FILTER_REVOKES_...: without noNewPrivileges that takes
    CAP_SYS_ADMIN."""
    sets, admin = process.capabilities, 1 << flags.CAPABILITIES["CAP_SYS_ADMIN"]
    if filter is None or process.no_new_privileges or (sets is None and process.user.uid == 0):
        return 0, 0
    if sets is not None and capability_bits(sets.effective) & capability_bits(sets.permitted) & admin:
        return 0, 0
    is_granted = sets is not None and capability_bits(sets.permitted) & admin
    return admin, flags.FILTER_REVOKES_EFFECTIVE | (0 if is_granted else flags.FILTER_REVOKES_PERMITTED)


def may_trace(process: Process) -> bool:
    """Whether it or a program that it executes could have CAP_SYS_PTRACE, which is what tracing an init that is not dumpable takes."""
    sets, bit = process.capabilities, 1 << flags.CAPABILITIES["CAP_SYS_PTRACE"]
    return sets is None or any(capability_bits(names) & bit
                               for names in (sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient))


def install(filter: Filter, revokes: int, before: int) -> op.InstallFilter:
    return op.InstallFilter(JSON_PATH, filter.program, len(filter.program), filter.flags, revokes, before)
