"""Plans in files, which the front end of the command line executes without Python (native/kept.c)."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Sequence

from pyruntime._native import ffi, lib
from pyruntime.native import files
from pyruntime.native.encoder import EncodedPlan

PLACE_OF_PID, PLACE_OF_START_TIME, PLACE_OF_NOW = (bytes([place]) for place in (lib.KEPT_PID, lib.KEPT_START_TIME, lib.KEPT_NOW))
PLACES = bytes(range(lib.KEPT_VALUE, lib.KEPT_NOW + 1))
# engines write what they have in a map in an order that differs each time
FILES_KEPT = {"exec-": 16, "": 128}
_new_buffer = ffi.new_allocator(should_clear_after_alloc=False)


def place_of_value(index: int) -> bytes:
    """Where the value with that index goes."""
    return bytes([lib.KEPT_VALUE, index + 1])


class PlanFile:
    """Where the plan for a command line may be kept: as things are when this is made.

    arguments   those of the program
    render      makes lines of a log of warnings, as JSON or for people, with PLACE_OF_NOW
    values      the id, and what else in the bundle differs among an engine's containers of one kind: the same plan is for all of these
    """

    def __init__(self, arguments: Sequence[str], render: Callable[[Sequence[str], bool], bytes]) -> None:
        self._arguments = arguments
        self._render = render
        self._key, self.path, self.values = _read_key(arguments)

    def exchange(self, text: bytes, others: Sequence[bytes]) -> bytes:
        """A text of the bundle with others of the same lengths in place of `values`."""
        buffer = ffi.new("char[]", text)
        lib.exchange_values(buffer, len(text), _struct_of(self.values), _struct_of(others))
        return bytes(ffi.buffer(buffer, len(text)))

    def render(self, warnings: Sequence[str]) -> tuple[bytes, bytes]:
        """Lines for people, and as JSON."""
        return self._render(warnings, False), self._render(warnings, True)

    def keep(self, encoded: EncodedPlan, told: tuple[bytes, bytes], holes: Sequence[tuple[int, int]] = (), record: bytes = b"",
             rootfs: bytes = b"", cgroup: bytes = b"") -> None:
        """Unless what the key is made of has changed meanwhile, or this cannot be. What is older makes room for it.

        told   what is warned of each time
        holes  where in the plan a value goes: an offset and the value's index
        record, rootfs, cgroup   of a new container; like what is told they have a place where something goes
        """
        if self._key is None or _read_key(self._arguments) != (self._key, self.path, self.values):
            return
        plan = encoded.plan
        succession = lib.SUCCESSION_RELEASED if plan.releases else lib.SUCCESSION_BELIEVED if plan.hands_over else lib.SUCCESSION_NONE
        padded = encoded.data + bytes(-len(encoded.data) % 8)
        packed = b"".join(struct.pack("=II", *hole) for hole in holes)
        text, document = told
        parts = (padded, packed, self._key, record, rootfs, cgroup, text, document)
        head = ffi.new("struct kept_plan *", {
            "build": lib.build_identity, "clone_flags": plan.clone_flags, "plan_size": len(padded), "holes_size": len(packed),
            "key_size": len(self._key), "record_size": len(record), "rootfs_size": len(rootfs), "cgroup_size": len(cgroup),
            "text_size": len(text), "json_size": len(document),
            "cgroup_slot": -1 if plan.cgroup is None else plan.cgroup.index, "succession": succession})
        with contextlib.suppress(OSError):  # it is only slower without
            self._make_room()
            new = f"{self.path}.{os.getpid()}.new"  # others may do the same
            files.write(new, bytes(ffi.buffer(head)) + b"".join(parts))
            os.rename(new, self.path)

    def _make_room(self) -> None:
        directory, _, name = self.path.rpartition("/")
        prefix = "exec-" if name.startswith("exec-") else ""
        if not prefix:
            os.makedirs(directory, 0o700, exist_ok=True)
        kept = [entry for entry in os.scandir(directory) if entry.name.startswith(prefix)]
        for entry in sorted(kept, key=lambda entry: entry.stat().st_mtime)[:-(FILES_KEPT[prefix] - 1)]:
            os.unlink(entry.path)


def _struct_of(values: Sequence[bytes]) -> ffi.CData:
    return ffi.new("struct kept_values *", {"count": len(values), "values": [{"size": len(value), "text": value} for value in values]})


def _read_key(arguments: Sequence[str]) -> tuple[bytes | None, str, list[bytes]]:
    """The key, the file and the values; None for a command line of which the front end takes no plan."""
    texts = [ffi.new("char[]", os.fsencode(argument)) for argument in arguments]
    key, path = _new_buffer("char[]", lib.KEPT_KEY_LIMIT), ffi.new("char[4096]")
    values = ffi.new("struct kept_values *")
    length = int(lib.read_kept_key([*texts, ffi.NULL], key, lib.KEPT_KEY_LIMIT, path, values))
    if length < 0:
        return None, "", []
    texts_of_values = [bytes(ffi.buffer(value.text, value.size)) for value in values.values[0:values.count]]
    return bytes(ffi.buffer(key, length)), os.fsdecode(ffi.string(path)), texts_of_values
