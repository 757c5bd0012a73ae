"""What a checkpoint holds besides CRIU's images: a file of pyruntime's own beside them."""

from __future__ import annotations

import os

import msgspec

from pyruntime.checkpoint.mounts import SavedMount, is_sound
from pyruntime.checkpoint.options import CgroupsMode

FILE = "pyruntime.json"
_VERSION = 1
_MAX_BYTES = 16 << 20


class SavedStream(msgspec.Struct, frozen=True):
    """One of init's standard streams.

    key       CRIU's name of it, by which another file takes its place; None: it is the container's own, or a terminal
    is_null   it was the null device
    """

    key: str | None = None
    is_null: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """mounts    all of them, in the kernel's order
    streams      of init
    has_terminal init has a terminal, whose other end was outside
    namespaces   keys of those that are not the container's own, by type
    namespace_bits   CLONE_NEW... of those that are not the host's
    cgroups_mode     what CRIU was told
    """

    mounts: tuple[SavedMount, ...]
    streams: tuple[SavedStream, SavedStream, SavedStream]
    has_terminal: bool
    namespaces: dict[str, str]
    namespace_bits: int
    cgroups_mode: CgroupsMode
    version: int = _VERSION


def write_manifest(directory: int, manifest: Manifest) -> None:
    """Raises OSError."""
    descriptor = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(manifest))


def read_manifest(directory: int) -> Manifest:
    """Raises OSError, ValueError for what is none."""
    descriptor = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    wrong = next((mount for mount in manifest.mounts if not is_sound(mount)), None)
    if wrong is not None:
        raise ValueError(f"what it says of the mount {wrong.mount_point!r} is of no checkpoint")
    if manifest.version != _VERSION:
        raise ValueError(f"it is of version {manifest.version}, not {_VERSION}")
    return manifest
