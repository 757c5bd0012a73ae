"""Programs of filters, kept: making the one of an engine's default profile takes longer than making a container."""

from __future__ import annotations

import contextlib
import os
import stat
import threading

import msgspec

from pyruntime.native import files
from pyruntime.native.seccomp import INSTRUCTION_BYTES, Compiled, compile_filter, library_version, machine
from pyruntime.notices import log as _log
from pyruntime.plan.seccomp import FilterSource

DIRECTORY = ".filters"  # below the root; no id begins with a dot
PROGRAMS_KEPT = 64
FILES_KEPT = 256
_FORMAT = b"pyruntime filter 1\n"  # another one whenever the same source becomes another program
_DIGEST_BYTES = 32
_encoder = msgspec.json.Encoder()


def _digest(*parts: bytes) -> bytes:
    import hashlib  # takes milliseconds, and few need it

    return hashlib.sha256(b"".join(parts)).digest()


class FilterCache:
    """By the digest of what a program is made from: in memory, and as files below the root.

    A file is the format, a digest of all that follows and of what the program was made from, the unknown names, NUL, the program. One that is
    not is made again.
    """

    def __init__(self, root: str) -> None:
        self._directory = f"{root}/{DIRECTORY}"
        self._kept: dict[bytes, Compiled] = {}
        self._lock = threading.Lock()

    def compile(self, source: FilterSource) -> Compiled:
        """Raises InvalidBundleError, UnsupportedFieldError."""
        key = _digest(_FORMAT, f"{library_version()} {machine()} ".encode(), _encoder.encode(source))
        with self._lock:
            compiled = self._kept.pop(key, None)
            if compiled is None:
                compiled = self._load(key)
            if compiled is None:
                compiled = compile_filter(source)
                self._store(key, compiled)
            self._kept[key] = compiled
            if len(self._kept) > PROGRAMS_KEPT:
                del self._kept[next(iter(self._kept))]
        return compiled

    def _load(self, key: bytes) -> Compiled | None:
        path = f"{self._directory}/{key.hex()}"
        try:
            if not self._is_ours():
                return None
            data = files.read(path)
        except OSError:
            return None
        digest, body = data[len(_FORMAT):len(_FORMAT) + _DIGEST_BYTES], data[len(_FORMAT) + _DIGEST_BYTES:]
        names, end, program = body.partition(b"\0")
        if not data.startswith(_FORMAT) or digest != _digest(key, body) or not end or not program or len(program) % INSTRUCTION_BYTES:
            _log.warning("%s: is damaged, and is made again", path)
            return None
        return Compiled(program, tuple(names.decode().split()))

    def _is_ours(self) -> bool:
        """Whoever could write in it would choose what containers may do."""
        status = os.lstat(self._directory)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return True
        _log.warning("%s: is not used, since others can read or change what is in it", self._directory)
        return False

    def _store(self, key: bytes, compiled: Compiled) -> None:
        """Nothing depends on it."""
        body = " ".join(compiled.unknown).encode() + b"\0" + compiled.program
        path = f"{self._directory}/{key.hex()}"
        temporary = f"{path}.{os.getpid()}.{threading.get_native_id()}"
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
            if not self._is_ours():
                return
            files.write(temporary, _FORMAT + _digest(key, body) + body)
            os.rename(temporary, path)
            self._remove_oldest()
        except OSError as error:
            _log.debug("%s: cannot be stored: %s", path, error.strerror)
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _remove_oldest(self) -> None:
        entries = list(os.scandir(self._directory))
        if len(entries) > FILES_KEPT:
            by_age = sorted(entries, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
            for entry in by_age[:len(entries) - FILES_KEPT // 2]:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
