"""Mount namespaces that are not a container's own, joined ones and the caller's: its root file system is mounted there, and is taken away
with the container."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from pyruntime.errors import SetupError
from pyruntime.native import process as native
from pyruntime.spec import Linux, NamespaceType
from pyruntime.state.record import ContainerRecord, JoinedMountNamespace

# without one in the configuration the container stays in the caller's; who deletes it has to be in the same
_CALLERS = "/proc/thread-self/ns/mnt"


def joined_mount_namespace(linux: Linux) -> JoinedMountNamespace | None:
    """Which one the container is in; None where it makes its own, or what the configuration names is not there."""
    if linux.makes_mount_namespace():
        return None
    namespace = linux.namespace(NamespaceType.MOUNT)
    path = _CALLERS if namespace is None or namespace.path is None else namespace.path
    try:
        status = os.stat(path)
    except OSError:  # opening it says why
        return None
    return JoinedMountNamespace(path, status.st_dev, status.st_ino)


def detach_root(joined: JoinedMountNamespace, rootfs_path: str) -> None:
    """Take the container's root file system out of the namespace. Nothing is there if the namespace has gone."""
    try:
        descriptor = os.open(joined.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        # another process may have the pid that the path names
        if (status.st_dev, status.st_ino) != (joined.device, joined.inode):
            return
        error = native.detach_mount(descriptor, rootfs_path)
    finally:
        os.close(descriptor)
    if error not in (0, errno.ENOENT, errno.EINVAL):
        raise SetupError("detach the root from the joined mount namespace", rootfs_path, error, "$.root.path")


def root_of(record: ContainerRecord) -> contextlib.AbstractContextManager[tuple[int, ...]]:
    """Entering it gives a descriptor of the root of a container's init, where that is not its mount namespace's; else none."""
    return contextlib.nullcontext(()) if record.joined_mount_namespace is None else _open_root(record.pid)


@contextlib.contextmanager
def _open_root(pid: int) -> Iterator[tuple[int, ...]]:
    descriptor = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield (descriptor,)
    finally:
        os.close(descriptor)
