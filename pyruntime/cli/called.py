"""The name by which the program was called. What was written for runc may rely on what that says, refuses and takes, so under its name these
few are runc's."""

from __future__ import annotations

import os

from pyruntime.cli.words import text_of
from pyruntime.errors import SetupError, UnsupportedFieldError

_MAKING = frozenset({"create", "run", "restore"})


def program_name() -> str:
    """The front end (native/front.c) tells if it is another one."""
    return os.environ.get("PYRUNTIME_CALLED_AS") or "pyruntime"


def error_line(message: str, command: str = "", error: Exception | None = None) -> str:
    """What standard error is told of a failure. Runc tells there how far it has come, but why a program cannot be executed its init says
    alone."""
    name = program_name()
    if name != "runc" or command not in _MAKING or not isinstance(error, SetupError):
        return f"{name}: {message}"
    if error.step == "execute program" and error.path and error.errno:
        return f"exec {error.path}: {text_of(error.errno)}"
    is_mount = (error.json_path or "").startswith("$.mounts[")
    return f"{name} {command} failed: {'unable to start container process: error during container init: error mounting: ' * is_mount}{message}"


def refuse_as_runc(bundle_path: str) -> None:
    """Runc passes the listener of a filter on by `write`, and so has nobody notified of that. Raises InvalidBundleError."""
    if program_name() != "runc":
        return
    from pyruntime.spec import SeccompAction, load_spec, read_config

    config = read_config(bundle_path)
    if SeccompAction.NOTIFY.value.encode() not in config:  # few have, and it is all decoded once more
        return
    seccomp = load_spec(config, file := os.path.join(bundle_path, "config.json")).linux.seccomp
    for i, rule in enumerate(seccomp.syscalls if seccomp is not None else ()):
        if rule.action is SeccompAction.NOTIFY and "write" in rule.names:
            raise UnsupportedFieldError(file, f"$.linux.seccomp.syscalls[{i}]",
                                        "SCMP_ACT_NOTIFY cannot be used for the write syscall under the name of runc")


def read_as_runc(process: bytes) -> bytes:
    """A process given as JSON with the priority that runc takes for 0 where it is missing: of the idle class there is only one."""
    if program_name() != "runc":
        return process
    import msgspec

    try:
        tree = msgspec.json.decode(process)
        if not any(name.lower() == "priority" for name in tree["ioPriority"]):
            tree["ioPriority"]["priority"] = 0
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError, AttributeError):  # the loader says what is wrong
        return process
    return msgspec.json.encode(tree)
