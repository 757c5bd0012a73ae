"""What is found out by trying, where that harms nothing: version numbers tell less than the kernel does itself."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import sys

import msgspec

# x86-64 and all others have these numbers (asm-generic/unistd.h)
_CALLS = {"pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "pidfd_open": 434,
          "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442}
SYSTEM_CALLS = tuple(_CALLS)
# arguments that the kernel refuses before it does anything
_WRONG = -1, 0, 0, 0, 0, 0
_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "open_tree": (-1, 0, 0x7FFFFFFF), "move_mount": (-1, 0, -1, 0, 0x7FFFFFFF), "fsopen": (0, 0x7FFFFFFF), "fsmount": (-1, 0x7FFFFFFF, 0),
    "fsconfig": (-1, 0x7FFFFFFF, 0, 0, 0), "clone3": (0, 0), "close_range": (1, 0, 0), "openat2": (-1, 0, 0, 0),
    "mount_setattr": (-1, 0, 0x7FFFFFFF, 0, 0), "pidfd_send_signal": (-1, 0, 0, 0x7FFFFFFF)}
_MFD_EXEC = 0x10
_TIMEOUT_S = 20.0


def _environment() -> dict[str, str]:
    """What is loaded into this program is nothing for others."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


class Criu(msgspec.Struct, frozen=True):
    """The program: where it is, what version it says, and what its own check says that this kernel lacks; None where it says that all is
    there, or was not asked."""

    path: str
    version: str
    complaint: str | None = None


class Probes:
    """Each tries one thing."""

    def system_call(self, name: str) -> int:
        """errno of calling it with what it refuses: ENOSYS where there is none, EPERM where a filter forbids it or root alone may."""
        libc = ctypes.CDLL(None, use_errno=True)
        arguments = _ARGUMENTS.get(name, _WRONG)
        result = libc.syscall(ctypes.c_long(_CALLS[name]), *(ctypes.c_long(argument) for argument in arguments))
        return ctypes.get_errno() if result < 0 else 0

    def executable_memfd(self) -> int:
        """errno of making a file in memory that may be executed, as the init is."""
        for flags in (_MFD_EXEC, 0):
            try:
                os.close(os.memfd_create("pyruntime-doctor", os.MFD_CLOEXEC | flags))
                return 0
            except OSError as error:
                if error.errno != errno.EINVAL:  # before Linux 6.3 there is no such flag, and every one may be executed
                    return error.errno or errno.EIO
        return errno.EINVAL

    def pidfd(self) -> int:
        """errno of holding this process by a descriptor, and of signalling it through that."""
        try:
            descriptor = os.pidfd_open(os.getpid())
            try:
                signal.pidfd_send_signal(descriptor, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def namespaces(self, is_user: bool) -> dict[str, int] | None:
        """errno by what was tried, 0 where it works (see namespace_probe.py); None where that could not be asked."""
        import subprocess

        program = os.path.join(os.path.dirname(__file__), "namespace_probe.py")
        try:
            told = subprocess.run([sys.executable, "-I", "-S", program, "user" if is_user else "root"], capture_output=True, timeout=_TIMEOUT_S,
                                  check=True, env=_environment())
            return {str(name): int(number) for name, number in json.loads(told.stdout).items()}
        except (OSError, subprocess.SubprocessError, ValueError):
            return None

    def limit_of_descriptors(self) -> tuple[int, int]:
        """Soft and hard."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    def libseccomp(self) -> str:
        """The version that is loaded."""
        from pyruntime.native.seccomp import library_version

        return library_version()

    def criu(self, checks: bool) -> Criu | None:
        """None where it is not installed. checks: ask it what this kernel lacks, which root alone can."""
        import subprocess

        from pyruntime.checkpoint.criu import command
        from pyruntime.errors import UnsupportedHostError

        try:
            program = command().arguments[0].decode()
        except UnsupportedHostError:
            return None
        version, complaint = "unknown", None
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            shown = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=_environment())
            version = shown.stdout.partition("\n")[0].removeprefix("Version:").strip() or version
        if checks:
            try:
                checked = subprocess.run([program, "check"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
                                         env=_environment())
                if checked.returncode:
                    lines = [line for line in (checked.stdout + checked.stderr).splitlines() if "rror" in line or "arn" in line]
                    complaint = lines[0].strip() if lines else f"it ended with {checked.returncode}"
            except (OSError, subprocess.SubprocessError) as error:
                complaint = str(error)
        return Criu(program, version, complaint)

    def systemd(self) -> str | None:
        """Why no unit can be asked for; None where one can."""
        from pyruntime.cgroups import systemd
        from pyruntime.errors import ContainerRuntimeError

        try:
            systemd.check_systemd()
            systemd.control_group()
        except (ContainerRuntimeError, OSError) as error:
            return str(error)
        return None
