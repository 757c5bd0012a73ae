"""spec, features and --version: what there is to say without a container."""

from __future__ import annotations

import argparse
import os
from typing import Any

import msgspec

from pyruntime import __version__
from pyruntime.cli.failures import CommandError
from pyruntime.cli.states import print_json
from pyruntime.native.seccomp import can_filter
from pyruntime.plan import flags, hooks
from pyruntime.plan.mount_options import names_of_options
from pyruntime.spec.default_config import default_config
from pyruntime.spec.seccomp import SeccompAction, SeccompArchitecture, SeccompFlag, SeccompOperator

_OLDEST_SPEC, _NEWEST_SPEC = "1.0.0", "1.3.0"


def print_version() -> int:
    """In the lines that engines look for: Docker at `version`, containerd at `spec:`."""
    print(f"pyruntime version {__version__}\nspec: {_NEWEST_SPEC}")
    return 0


def write_spec(options: argparse.Namespace) -> int:
    """A new file; one that is there is left alone."""
    path = os.path.join(options.bundle, "config.json")
    try:
        with open(path, "x") as file:
            file.write(msgspec.json.format(msgspec.json.encode(default_config())).decode() + "\n")
    except FileExistsError as error:
        raise CommandError(f"{path!r} exists already") from error
    return 0


def print_features(options: argparse.Namespace) -> int:
    """As the specification has it (features.md): what is executed on whatever host, and not what is only accepted."""
    document: dict[str, Any] = {
        "ociVersionMin": _OLDEST_SPEC,
        "ociVersionMax": _NEWEST_SPEC,
        "hooks": list(hooks.KINDS),
        "mountOptions": names_of_options(),
        "linux": {
            "namespaces": sorted(flags.NAMESPACES),
            "capabilities": sorted(flags.CAPABILITIES, key=flags.CAPABILITIES.__getitem__),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [str(action) for action in SeccompAction],
                "operators": [str(operator) for operator in SeccompOperator],
                "archs": [str(architecture) for architecture in SeccompArchitecture if can_filter(architecture)],
                "knownFlags": [str(flag) for flag in SeccompFlag],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {"modes": sorted(flags.MEMORY_POLICY_MODES), "flags": sorted(flags.MEMORY_POLICY_FLAGS)},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": False}},
            "netDevices": {"enabled": True},
        },
    }
    print_json(document)
    return 0
