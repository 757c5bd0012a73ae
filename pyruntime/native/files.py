"""Files that are read and written often, each in one call that releases the interpreter's lock once."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pyruntime._native import ffi, lib

_BLOCK_BYTES = 8192
_new_buffer = ffi.new_allocator(should_clear_after_alloc=False)


def _check(result: int, path: str) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result), path)
    return result


def read(path: str) -> bytes:
    """The content of a file. Raises OSError."""
    size = _BLOCK_BYTES
    while True:
        buffer = _new_buffer("char[]", size)
        length = _check(lib.read_file(os.fsencode(path), buffer, size), path)
        if length < size:
            return bytes(ffi.buffer(buffer, length))
        size *= 16


def is_frozen(path: str) -> bool:
    """Whether a freezer.state or cgroup.freeze says that processes are stopped, or about to be; not where it is gone. Raises OSError."""
    return bool(_check(lib.is_frozen(os.fsencode(path)), path))


def write(path: str, data: bytes) -> None:
    """Make or overwrite a file, 0600. Raises OSError."""
    _check(lib.store_file(os.fsencode(path), data, len(data), ffi.NULL), path)


def replace(path: str, data: bytes) -> None:
    """The same in one step for those who read it; `path`.new is there meanwhile. Raises OSError."""
    encoded = os.fsencode(path)
    _check(lib.store_file(encoded + b".new", data, len(data), encoded), path)


def lock_directory(path: str) -> int:
    """Wait until nobody else has it locked: a descriptor, which is unlocked and closed afterwards. Raises OSError: FileNotFoundError, and
    ESTALE for one that was removed meanwhile."""
    return _check(lib.lock_directory(os.fsencode(path)), path)


def remove_directory(path: str) -> None:
    """Remove a directory with the files in it. Raises OSError."""
    _check(lib.remove_directory(os.fsencode(path)), path)


def remove_empty_directories(paths: Sequence[str]) -> list[int]:
    """Remove each that is empty; an errno for each, 0 for those removed."""
    errors = ffi.new("int[]", len(paths))
    lib.remove_empty_directories(os.fsencode("\0".join(paths)), len(paths), errors)
    return list(errors)


def open_in_root(root: int, path: str) -> int:
    """An O_PATH descriptor of what a path is below the directory `root`, whose links lead nowhere else. Raises OSError."""
    return _check(lib.open_in_root(root, os.fsencode(path)), path)
