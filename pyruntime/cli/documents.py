"""spec, features and --version: what there is to say without a container."""

from __future__ import annotations

import argparse
import os
from typing import Any

import msgspec

from pyruntime import __version__
from pyruntime.cli.failures import CommandError
from pyruntime.cli.states import print_json
from pyruntime.host import MINIMUM_KERNEL, parse_kernel, read_host
from pyruntime.native.seccomp import can_filter, library_version
from pyruntime.plan import flags, hooks
from pyruntime.plan.mount_options import names_of_options
from pyruntime.plan.seccomp import WAIT_KILLABLE_KERNEL
from pyruntime.spec.default_config import default_config, rootless_config
from pyruntime.spec.seccomp import SeccompAction, SeccompArchitecture, SeccompFlag, SeccompOperator

_OLDEST_SPEC, _NEWEST_SPEC = "1.0.0", "1.3.0"
# those that came after the oldest kernel that is supported
_FLAGS_SINCE = {SeccompFlag.WAIT_KILLABLE_RECV: WAIT_KILLABLE_KERNEL}


def print_version() -> int:
    """In the lines that engines look for: Docker at `version`, containerd at `spec:`."""
    print(f"pyruntime version {__version__}\nspec: {_NEWEST_SPEC}")
    return 0


def write_spec(options: argparse.Namespace) -> int:
    """A new file; one that is there is left alone. With cgroup v1 the container has no cgroup namespace, as runc and crun write it: what
    looks for its own cgroup in such a one finds it by the host's paths."""
    path = os.path.join(options.bundle, "config.json")
    config = rootless_config(os.geteuid(), os.getegid()) if options.is_rootless else default_config()
    if not read_host().is_unified:
        config["linux"]["namespaces"].remove({"type": "cgroup"})
    try:
        with open(path, "x") as file:
            file.write(msgspec.json.format(msgspec.json.encode(config)).decode() + "\n")
    except FileExistsError as error:
        raise CommandError(f"{path!r} exists already") from error
    return 0


def features() -> dict[str, Any]:
    """What this build executes, and not what it only accepts (runtime-spec, features.md and features-linux.md).

    It does not tell what this host can do, but for `supportedFlags` of seccomp, which are those that this kernel knows.
    """
    kernel = parse_kernel(os.uname().release)
    return {
        "ociVersionMin": _OLDEST_SPEC,
        "ociVersionMax": _NEWEST_SPEC,
        "hooks": list(hooks.KINDS),
        "mountOptions": names_of_options(),
        "annotations": {"io.github.seccomp.libseccomp.version": library_version(),
                        # with criu installed; runc has one of this kind
                        "org.pyruntime.checkpoint.enabled": "true"},
        # none changes what is done
        "potentiallyUnsafeConfigAnnotations": [],
        "linux": {
            "namespaces": sorted(flags.NAMESPACES),
            "capabilities": sorted(flags.CAPABILITIES, key=flags.CAPABILITIES.__getitem__),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": [str(action) for action in SeccompAction],
                "operators": [str(operator) for operator in SeccompOperator],
                "archs": [str(architecture) for architecture in SeccompArchitecture if can_filter(architecture)],
                "knownFlags": [str(flag) for flag in SeccompFlag],
                "supportedFlags": [str(flag) for flag in SeccompFlag if kernel >= _FLAGS_SINCE.get(flag, MINIMUM_KERNEL)],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {"modes": sorted(flags.MEMORY_POLICY_MODES), "flags": sorted(flags.MEMORY_POLICY_FLAGS)},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
    }


def print_features(options: argparse.Namespace) -> int:
    """See `features`."""
    print_json(features())
    return 0
