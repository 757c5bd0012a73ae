"""What an operation is: one step of a plan, and how it is told in words."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec


class Slot(msgspec.Struct, frozen=True):
    """A place for a descriptor: filled by the host before the clone, or by the host while the init is at work already
    (late), or by the init itself."""

    owner: Literal["host", "late", "init"]
    index: int

    def __str__(self) -> str:
        return f"{self.owner}:{self.index}"


class Operation(msgspec.Struct, frozen=True):
    """One step. `step_of` says in words what is tried, `subject()` on what; `about` is that where it is always the same."""

    about: ClassVar[str | None] = None
    json_path: str

    def subject(self) -> str | None:
        """What the step is about, as who wrote the configuration knows it; None if there is nothing of the kind."""
        for name in ("path", "name"):
            value = getattr(self, name, None)
            if value is not None:
                return str(value.decode(errors="backslashreplace"))
        return getattr(self, "place", "") or self.about

    def __str__(self) -> str:
        parts = [f"{step_of(self):32}"]
        for name in self.__struct_fields__[1:]:
            value = getattr(self, name)
            if isinstance(value, bytes):
                shown = value.decode(errors="backslashreplace") if len(value) < 200 else f"<{len(value)} bytes>"
            elif isinstance(value, tuple):
                shown = " ".join(item.decode(errors="backslashreplace") for item in value)
            elif isinstance(value, Slot | str):
                shown = str(value)
            else:
                shown = oct(value) if name == "mode" else hex(value) if value > 4096 else str(value)
            parts.append(f"{name}={shown}")
        return " ".join(parts) + (f"  # {self.json_path}" if self.json_path else "")


def step_of(operation: Operation) -> str:
    """The step in words: `MakeCgroup` is "make cgroup"."""
    name = type(operation).__name__
    return "".join(f" {c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
