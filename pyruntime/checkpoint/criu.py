"""The program criu: started for one request, by the same native code as a container's init, and spoken to by its protocol."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pyruntime.checkpoint import rpc
from pyruntime.errors import CheckpointError, UnsupportedHostError
from pyruntime.native import process as native
from pyruntime.native.encoder import EncodedPlan, encode
from pyruntime.native.process import Spawned
from pyruntime.plan.operations import ExecuteProgram, Plan

# where criu's own programs are: tar, ip, iptables
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOG_LEVEL = 4
_EXCERPT_LINES = 6
# to end by itself, once its socket is closed: it takes out of the processes what it has put in
END_TIMEOUT_S = 10.0
WIRE = 3  # its descriptor of the socket

OnNotify = Callable[[str, int, Sequence[int]], None]


def command(work_path: str | None = None) -> ExecuteProgram:
    """What executes it. Raises UnsupportedHostError if it is not installed.

    work_path   where it mounts what it needs itself, in a mount namespace of its own: a descriptor of the caller's leads out of that
    """
    path = f"{os.environ['PATH']}:{_SYSTEM_PATH}" if os.environ.get("PATH") else _SYSTEM_PATH
    found = shutil.which("criu", path=path)
    if found is None:
        raise UnsupportedHostError(f"criu, which makes and restores checkpoints, is not found in {path!r}: install the package criu")
    options = (b"--work-dir", os.fsencode(work_path)) if work_path is not None else ()
    return ExecuteProgram("", (os.fsencode(os.path.abspath(found)), *options, b"swrk", b"%d" % WIRE), (b"PATH=" + os.fsencode(path),))


def plan() -> EncodedPlan:
    """Of a criu that runs where the caller does."""
    return encode(Plan((), (), (command(),), 0, None, 0, 0, given_fds=1))


class Directories:
    """Of the images, and of the log: made if missing, and open. Raises CheckpointError."""

    def __init__(self, step: str, image_path: str, work_path: str | None, makes_images: bool) -> None:
        self.step = step
        self.image_path = os.path.abspath(image_path)
        self.work_path = os.path.abspath(work_path) if work_path is not None else self.image_path
        self.images = self.work = -1
        self._made: list[str] = []
        self._before: set[str] = set()
        try:
            self.images = self._open(self.image_path, makes_images)
            self._before.update(os.listdir(self.images))
            self.work = self._open(self.work_path, True)
        except BaseException:
            self.undo()
            self.close()
            raise

    def _open(self, path: str, makes: bool) -> int:
        try:
            if makes and not os.path.isdir(path):
                os.mkdir(path, 0o700)
                self._made.append(path)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(self.step, error.errno or 0, f"directory {path!r}", None) from error

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in (self.images, self.work):
            if descriptor >= 0:
                os.close(descriptor)
        self.images = self.work = -1

    def undo(self, kept: Sequence[str] = ()) -> None:
        """Remove the images that were not there before, and directories that were made if nothing is left in them."""
        if self.images >= 0:
            for name in set(os.listdir(self.images)) - self._before - set(kept):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self.images)
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def log_file(self, name: str) -> str | None:
        path = os.path.join(self.work_path, name)
        return path if os.path.exists(path) else None


def read_errors(path: str | None) -> tuple[str, ...]:
    """The last lines of a log that tell of errors, without their times and places' widths."""
    if path is None:
        return ()
    try:
        with open(path, "rb") as file:
            lines = [line.decode(errors="backslashreplace").strip() for line in file if b"Error (" in line]
    except OSError:
        return ()
    # "(00.012345) Error (criu/mount.c:1234): what"
    return tuple(line.partition(") ")[2].strip() if line.startswith("(") else line for line in lines[-_EXCERPT_LINES:])


class Criu:
    """A criu that waits for its request. `close` ends it."""

    def __init__(self, encoded: EncodedPlan, id: str, descriptors: Sequence[int] = (), stdio: tuple[int, int, int] | None = None) -> None:
        """descriptors: what it gets from WIRE + 1 on. stdio: None for none. Raises SetupError."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # the dynamic linker and criu itself complain here before there is a log
        self._complaints = os.memfd_create("pyruntime-criu", os.MFD_CLOEXEC)
        self._spawned: Spawned | None = None
        self._wire = ours
        self.pid = 0
        try:
            with its:
                null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
                try:
                    spawned = native.spawn(encoded, id, stdio or (null, self._complaints, self._complaints), (its.fileno(), *descriptors))
                finally:
                    os.close(null)
            spawned.follow(native.MESSAGE_EXECUTING)
            self._spawned, self.pid = spawned, spawned.pid
        except BaseException:
            ours.close()
            os.close(self._complaints)
            raise

    def call(self, type: int, opts: Mapping[str, object] | None = None, features: Mapping[str, object] | None = None,
             on_notify: OnNotify | None = None) -> Any:
        """See rpc.Connection.call. Raises rpc.Refused."""
        return rpc.Connection(self._wire).call(type, opts, features, on_notify)

    def complaints(self) -> str:
        """What it has written to its standard streams."""
        return os.pread(self._complaints, 4096, 0).decode(errors="backslashreplace").strip()

    def close(self) -> None:
        """Wait for its end."""
        self._wire.close()
        if self._spawned is not None:
            spawned, self._spawned = self._spawned, None
            native.wait_until_ended(spawned.pidfd, END_TIMEOUT_S)
            spawned.discard()

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            os.close(self._complaints)


def base_options(directories: Directories, log_file: str) -> dict[str, object]:
    """What every request has. CRIU opens the directory by the caller's descriptor."""
    return {"images_dir_fd": directories.images, "log_level": _LOG_LEVEL, "log_file": log_file, "notify_scripts": True}


@contextlib.contextmanager
def explained(directories: Directories, log_name: str, criu: Criu) -> Iterator[None]:
    """What CRIU refuses is a CheckpointError with what its log says of it."""
    began = time.time()
    try:
        yield
    except rpc.Refused as refused:
        log = directories.log_file(log_name)
        if log is not None and os.stat(log).st_mtime < began - 1:
            log = None  # an earlier one's
        told = read_errors(log)
        said = [] if told else [refused.message.strip(), *criu.complaints().splitlines()[-1:]]
        number = refused.errno if 0 < refused.errno < 4096 else 0
        raise CheckpointError(directories.step, number, ": ".join(filter(None, said)), log, told) from refused


def require_feature(name: str, step: str) -> None:
    """Raises CheckpointError where kernel and criu do not have it: `mem_track` or `lazy_pages`."""
    with Criu(plan(), "") as criu:
        try:
            response = criu.call(rpc.FEATURE_CHECK, features={name: True})
        except rpc.Refused as refused:
            said = filter(None, (f"criu cannot say whether it has {name}", refused.message.strip(), criu.complaints().strip()))
            raise CheckpointError(step, 0, ": ".join(said), None) from refused
    if not getattr(response.features, name):
        raise CheckpointError(step, 0, f"this host's kernel or criu does not have {name}", None)
