"""A bundle as the host has it."""

from __future__ import annotations

import os

import msgspec

from pyruntime.errors import InvalidBundleError
from pyruntime.spec import NamespaceType, Spec, load_bundle


class OpenedBundle(msgspec.Struct, frozen=True):
    """A bundle directory and its root file system, both absolute, and what its config.json says."""

    path: str
    rootfs_path: str
    spec: Spec

    @property
    def shares_pid_namespace(self) -> bool:
        """Whether init does not begin a pid namespace, so that the container's other processes can outlive it."""
        return not any(namespace.type == NamespaceType.PID and not namespace.path
                       for namespace in self.spec.linux.namespaces)


def open_bundle(path: str) -> OpenedBundle:
    """Load it. Raises InvalidBundleError, also if the root file system is not a directory."""
    path = os.path.abspath(path)
    spec = load_bundle(path)
    rootfs_path = os.path.normpath(os.path.join(path, spec.root.path))
    if not os.path.isdir(rootfs_path):
        why = "is not a directory" if os.path.exists(rootfs_path) else "does not exist"
        raise InvalidBundleError(f"{path}/config.json", "$.root.path", f"{rootfs_path!r} {why}")
    return OpenedBundle(path, rootfs_path, spec)
