"""A program of its own, which tries what a container needs of the kernel in processes that end at once: nothing of it lasts.

    python -I namespace_probe.py user|root     prints one JSON object: what was tried, and errno, 0 where it works
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable

CLONE = {"time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
         "network": 0x40000000}
_MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x4000, 1 << 18, 2, 4, 8
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR = 428, 442  # the same on every architecture
_OPEN_TREE_CLONE, _AT_FDCWD, _AT_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 1, -100, 0x1000, 0x100000
# file systems that bundles and volumes are on
PLACES = ("/", "/var", "/home", "/tmp", "/dev/shm")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def _mount(source: bytes, target: bytes, type: bytes | None, flags: int) -> None:
    _check(_libc.mount(source, target, type, ctypes.c_ulong(flags), None))


def in_child(work: Callable[[], None]) -> int:
    """errno of what fails in it, 0 if nothing does."""
    pid = os.fork()
    if not pid:
        number = errno.EIO
        try:
            work()
            number = 0
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def new_user_namespace() -> None:
    """With the caller as its root."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE["user"])
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def change_mounts() -> None:
    """In a mount namespace: where AppArmor restricts user namespaces, they can be made, and nothing be done in them."""
    _unshare(CLONE["mount"])
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)


def mount_proc() -> None:
    """Of a new pid namespace, which only its processes may."""
    change_mounts()
    _unshare(CLONE["pid"])
    number = in_child(lambda: _mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC))
    if number:
        raise OSError(number, "")


def as_user(work: Callable[[], None]) -> int:
    """In a user namespace of its own."""
    def both() -> None:
        new_user_namespace()
        work()

    return in_child(both)


def map_ids(path: str) -> None:
    """Of a copy of the mount at a path, which is attached nowhere."""
    ready, end = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _unshare(CLONE["user"])
            os.write(ready[1], b"+")
            os.close(end[1])
            os.read(end[0], 1)
        finally:
            os._exit(0)
    try:
        os.close(ready[1])
        if os.read(ready[0], 1) != b"+":
            raise OSError(errno.EPERM, "")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write("0 100000 65536")
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        tree = _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC))
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
        _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, ctypes.sizeof(attributes)))
    finally:
        for descriptor in (*end, ready[0]):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os.waitpid(pid, 0)


def probe(is_user: bool) -> dict[str, int]:
    """What a container of this caller needs."""
    run = as_user if is_user else in_child
    found = {"user": in_child(new_user_namespace) if is_user else in_child(lambda: _unshare(CLONE["user"]))}
    found |= {name: run(lambda flags=flags: _unshare(flags)) for name, flags in CLONE.items() if name != "user"}  # type: ignore[misc]
    found["change mounts"] = run(change_mounts)
    if is_user:
        found["mount proc"] = as_user(mount_proc)
    else:
        found |= {f"map ids of {place}": in_child(lambda place=place: map_ids(place)) for place in PLACES if os.path.isdir(place)}  # type: ignore[misc]
    return found


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1:] == ["user"])))
