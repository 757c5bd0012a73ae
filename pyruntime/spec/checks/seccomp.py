"""Checks of `linux.seccomp` (runtime-spec, config-linux.md "Seccomp")."""

from __future__ import annotations

from pyruntime.spec.checks.integers import UINT64_MAX, check_uint64
from pyruntime.spec.checks.text import check_absolute
from pyruntime.spec.refusal import Refused
from pyruntime.spec.seccomp import Seccomp, SeccompAction, SeccompFlag

_LARGEST_ERRNO = 4095  # MAX_ERRNO of the kernel, which cuts a larger one to it; SCMP_ACT_TRACE has all 16 bits


def check_seccomp(seccomp: Seccomp, json_path: str) -> None:
    """Refuse what no filter can be made of. `json_path` is where the object stands."""
    _check_errno(seccomp.default_action, seccomp.default_errno_ret, f"{json_path}.defaultErrnoRet")
    notifies = seccomp.default_action is SeccompAction.NOTIFY
    for i, rule in enumerate(seccomp.syscalls):
        notifies |= rule.action is SeccompAction.NOTIFY
        if rule.errno_ret is not None:
            _check_errno(rule.action, rule.errno_ret, f"{json_path}.syscalls[{i}].errnoRet")
        for j, argument in enumerate(rule.args):
            if argument.value > UINT64_MAX or argument.value_two > UINT64_MAX:
                check_uint64(argument.value, f"{json_path}.syscalls[{i}].args[{j}].value")
                check_uint64(argument.value_two, f"{json_path}.syscalls[{i}].args[{j}].valueTwo")
    for i, flag in enumerate(seccomp.flags or ()):
        # the kernel refuses it, since nobody waits
        if flag is SeccompFlag.WAIT_KILLABLE_RECV and not notifies:
            raise Refused(f"{json_path}.flags[{i}]", f"{flag} means nothing without SCMP_ACT_NOTIFY")
    if seccomp.listener_path is not None:
        if notifies:  # it is ignored else
            check_absolute(seccomp.listener_path, f"{json_path}.listenerPath")
    else:
        if notifies:
            raise Refused(f"{json_path}.listenerPath", "is required with SCMP_ACT_NOTIFY, but missing or empty")
        if seccomp.listener_metadata is not None:
            raise Refused(f"{json_path}.listenerMetadata", "needs a listenerPath")


def _check_errno(action: SeccompAction, errno: int | None, json_path: str) -> None:
    if errno is None:
        return
    if action not in (SeccompAction.ERRNO, SeccompAction.TRACE):
        raise Refused(json_path, f"is {errno}, but {action} returns no errno")
    if action is SeccompAction.ERRNO and errno > _LARGEST_ERRNO:
        raise Refused(json_path, f"is {errno}, but must be at most {_LARGEST_ERRNO}")
