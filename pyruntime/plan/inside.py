"""Paths in the container, by their text."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable

import msgspec

from pyruntime.spec import Spec


def inside(path: str) -> str:
    """Absolute in the container; a relative one is relative to /."""
    return posixpath.normpath("/" + path.lstrip("/"))


def inside_root(path: str, rootfs_path: str) -> str | None:
    """What an absolute path of the host is in the container whose root file system is there; None if it leads elsewhere.

    By the text alone: of the links in a root file system none leads out of it.
    """
    path = posixpath.normpath(path)
    if rootfs_path == "/" or not (path + "/").startswith(rootfs_path + "/"):
        return None
    return path[len(rootfs_path):] or "/"


def source_inside_root(source: str, bundle_path: str, rootfs_path: str) -> str | None:
    """The same of the source of a bind mount."""
    return inside_root(os.path.join(bundle_path, source), rootfs_path)


def with_destinations_inside(spec: Spec, rootfs_path: str) -> Spec:
    """Some name the place of a mount as the host has it, below the root file system; so does runc."""
    if not any(mount.destination.startswith(rootfs_path) for mount in spec.mounts):
        return spec
    mounts = tuple(msgspec.structs.replace(mount, destination=inside_root(mount.destination, rootfs_path) or mount.destination)
                   for mount in spec.mounts)
    return msgspec.structs.replace(spec, mounts=mounts)


def each_once(paths: Iterable[str]) -> dict[str, int]:
    """Paths in the container, without those that are others in another spelling, and the index of the first. What stands before a `..` may
    be a link, so it is as it is."""
    found: dict[str, int] = {}
    for i, path in enumerate(paths):
        found.setdefault(path if ".." in path else inside(path), i)
    return found
