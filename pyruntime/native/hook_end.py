"""How a hook ended."""

from __future__ import annotations

import msgspec

from pyruntime.errors import HookFailedError


class HookEnd(msgspec.Struct, frozen=True):
    """Where it ran makes no difference.

    exit_code, signal   one of them; neither if it was killed because its time was over, or if nobody knows
    output              the end of what it wrote to standard output and standard error
    """

    exit_code: int | None
    signal: int | None
    is_late: bool
    output: bytes

    @property
    def has_succeeded(self) -> bool:
        return self.exit_code == 0

    def failure(self, path: str, json_path: str, timeout_s: int | None) -> HookFailedError:
        """The error of a hook that ended so."""
        if self.is_late:
            how = f"did not end within {timeout_s} s and was killed"
        elif self.signal is not None:
            how = f"was killed by signal {self.signal}{_name_of(self.signal)}"
        elif self.exit_code is None:
            how = "ended, and its exit status went to somebody else"
        else:
            how = f"exited with {self.exit_code}"
        output = " ".join(self.output.decode(errors="replace").split())
        return HookFailedError(path, 0, f"{json_path}.timeout" if self.is_late else json_path, f"{how}: {output}" if output else how,
                               self.exit_code, self.signal)


def _name_of(number: int) -> str:
    """As in ` (SIGSYS: bad system call)`, which logs are searched for."""
    import signal  # nothing else of a start needs it

    try:
        text = signal.strsignal(number) or ""
        return f" ({signal.Signals(number).name}: {text[:1].lower()}{text[1:]})"
    except ValueError:
        return ""  # a real-time signal has no name
