"""Plans in files, which the front end of the command line executes without Python (native/kept.c)."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Sequence

from pyruntime._native import ffi, lib
from pyruntime.native import files
from pyruntime.native.encoder import EncodedPlan

PLACE_OF_ID, PLACE_OF_PID, PLACE_OF_START_TIME, PLACE_OF_NOW = (
    bytes([place]) for place in (lib.KEPT_ID, lib.KEPT_PID, lib.KEPT_START_TIME, lib.KEPT_NOW))
FILES_KEPT = 16
_new_buffer = ffi.new_allocator(should_clear_after_alloc=False)


class PlanFile:
    """Where the plan for a command line may be kept: as things are when this is made.

    arguments   those of the program
    render      makes lines of a log of warnings, as JSON or for people, with PLACE_OF_NOW
    """

    def __init__(self, arguments: Sequence[str], render: Callable[[Sequence[str], bool], bytes]) -> None:
        self._arguments = arguments
        self._render = render
        self._key, self.path = _read_key(arguments)

    def keep(self, encoded: EncodedPlan, warnings: Sequence[str], record: bytes = b"", rootfs: bytes = b"", cgroup: bytes = b"") -> None:
        """Unless what the key is made of has changed meanwhile, or this cannot be. What is older makes room for it.

        warnings   what is told each time
        record, rootfs, cgroup   of a new container: its record and its cgroup have a PLACE_... where something goes
        """
        if self._key is None or _read_key(self._arguments) != (self._key, self.path):
            return
        plan = encoded.plan
        succession = lib.SUCCESSION_RELEASED if plan.releases else lib.SUCCESSION_BELIEVED if plan.hands_over else lib.SUCCESSION_NONE
        padded = encoded.data + bytes(-len(encoded.data) % 8)
        holes = struct.pack(f"={len(encoded.holes)}I", *encoded.holes)
        text, document = self._render(warnings, False), self._render(warnings, True)
        parts = (padded, holes, self._key, record, rootfs, cgroup, text, document)
        head = ffi.new("struct kept_plan *", {
            "build": lib.build_identity, "clone_flags": plan.clone_flags, "plan_size": len(padded), "holes_size": len(holes),
            "key_size": len(self._key), "record_size": len(record), "rootfs_size": len(rootfs), "cgroup_size": len(cgroup),
            "text_size": len(text), "json_size": len(document), "id_size": encoded.hole_size,
            "cgroup_slot": -1 if plan.cgroup is None else plan.cgroup.index, "succession": succession})
        with contextlib.suppress(OSError):  # it is only slower without
            self._make_room()
            new = f"{self.path}.{os.getpid()}.new"  # others may do the same
            files.write(new, bytes(ffi.buffer(head)) + b"".join(parts))
            os.rename(new, self.path)

    def _make_room(self) -> None:
        directory, _, name = self.path.rpartition("/")
        if name.startswith("exec-"):
            prefix = "exec-"
        else:
            prefix = ""
            os.makedirs(directory, 0o700, exist_ok=True)
        kept = [entry for entry in os.scandir(directory) if entry.name.startswith(prefix)]
        for entry in sorted(kept, key=lambda entry: entry.stat().st_mtime)[:-(FILES_KEPT - 1)]:
            os.unlink(entry.path)


def _read_key(arguments: Sequence[str]) -> tuple[bytes | None, str]:
    """None for a command line of which the front end takes no plan."""
    texts = [ffi.new("char[]", os.fsencode(argument)) for argument in arguments]
    key, path = _new_buffer("char[]", lib.KEPT_KEY_LIMIT), ffi.new("char[4096]")
    length = int(lib.read_kept_key([*texts, ffi.NULL], key, lib.KEPT_KEY_LIMIT, path))
    return (None, "") if length < 0 else (bytes(ffi.buffer(key, length)), os.fsdecode(ffi.string(path)))
