"""A bundle on the host: its configuration, checked, and where its root file system is."""

from __future__ import annotations

import os

import msgspec

from pyruntime.errors import InvalidBundleError
from pyruntime.spec import NamespaceType, Spec, load_bundle


class Bundle(msgspec.Struct, frozen=True):
    """Both paths are absolute."""

    path: str
    rootfs_path: str
    spec: Spec

    @property
    def shares_pid_namespace(self) -> bool:
        """Whether init does not begin a pid namespace, so that others outlive it."""
        return not any(namespace.type == NamespaceType.PID and not namespace.path
                       for namespace in self.spec.linux.namespaces)


def open_bundle(path: str) -> Bundle:
    """Raises InvalidBundleError, also if the root file system is not a directory."""
    path = os.path.abspath(path)
    spec = load_bundle(path)
    rootfs = os.path.normpath(os.path.join(path, spec.root.path))
    if not os.path.isdir(rootfs):
        why = "is not a directory" if os.path.exists(rootfs) else "does not exist"
        raise InvalidBundleError(f"{path}/config.json", "$.root.path", f"{rootfs!r} {why}")
    return Bundle(path, rootfs, spec)
