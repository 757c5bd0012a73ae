"""A bundle as the host has it."""

from __future__ import annotations

import os
from typing import Self

import msgspec

from pyruntime.errors import InvalidBundleError
from pyruntime.plan.inside import with_destinations_inside
from pyruntime.spec import NamespaceType, Spec, load_spec, read_config, refuse_for_host


class OpenedBundle(msgspec.Struct, frozen=True):
    """A bundle directory and its root file system, both absolute, and what its config.json says."""

    path: str
    rootfs_path: str
    spec: Spec

    @classmethod
    def decode(cls, path: str, config: bytes) -> Self:
        """From the content of its config.json; whether there is a root file system is not looked at. Raises InvalidBundleError."""
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InvalidBundleError(path, None, "the path is not UTF-8, as the state of its container has to be") from error
        spec = load_spec(config, f"{path}/config.json")
        rootfs_path = os.path.normpath(os.path.join(path, spec.root.path))
        return cls(path, rootfs_path, with_destinations_inside(spec, rootfs_path))

    @property
    def config_file(self) -> str:
        return f"{self.path}/config.json"

    @property
    def shares_pid_namespace(self) -> bool:
        """Whether init does not begin a pid namespace, so that the container's other processes can outlive it."""
        return not any(namespace.type == NamespaceType.PID and not namespace.path
                       for namespace in self.spec.linux.namespaces)


def check_rootfs(bundle: OpenedBundle) -> None:
    """Raises InvalidBundleError unless the root file system is a directory."""
    path = bundle.rootfs_path
    if not os.path.isdir(path):
        why = "is not a directory" if os.path.exists(path) else "does not exist"
        raise InvalidBundleError(bundle.config_file, "$.root.path", f"{path!r} {why}")


def open_bundle(path: str) -> OpenedBundle:
    """Load it for a runtime that compiles no plan. Raises InvalidBundleError, also if the root file system is not a directory."""
    path = os.path.abspath(path)
    bundle = OpenedBundle.decode(path, read_config(path))
    refuse_for_host(bundle.spec, bundle.config_file)
    check_rootfs(bundle)
    return bundle
