"""What this build executes, as the document that runtime-spec wants of every runtime (features.md, features-linux.md)."""

from __future__ import annotations

import os
from typing import Any

from pyruntime.cgroups.systemd import PROPERTY_ANNOTATION
from pyruntime.host import MINIMUM_KERNEL, parse_kernel
from pyruntime.native.seccomp import can_filter, library_version
from pyruntime.plan import flags, hooks
from pyruntime.plan.id_maps import KEEP_GROUPS_ANNOTATION
from pyruntime.plan.mount_options import names_of_options
from pyruntime.plan.seccomp import WAIT_KILLABLE_KERNEL
from pyruntime.spec.seccomp import SeccompAction, SeccompArchitecture, SeccompFlag, SeccompOperator
from pyruntime.versions import NEWEST_SPEC, OLDEST_SPEC

# those that came after the oldest kernel that is supported
_FLAGS_SINCE = {SeccompFlag.WAIT_KILLABLE_RECV: WAIT_KILLABLE_KERNEL}


def features() -> dict[str, Any]:
    """What this build executes, and not what it only accepts (runtime-spec, features.md and features-linux.md).

    It does not tell what this host can do, but for `supportedFlags` of seccomp, which are those that this kernel knows.
    """
    kernel = parse_kernel(os.uname().release)
    return {
        "ociVersionMin": OLDEST_SPEC,
        "ociVersionMax": NEWEST_SPEC,
        "hooks": list(hooks.KINDS),
        "mountOptions": names_of_options(),
        "annotations": {"io.github.seccomp.libseccomp.version": library_version(),
                        # with criu installed; runc has one of this kind
                        "org.pyruntime.checkpoint.enabled": "true"},
        # all of the first beginning, with the systemd cgroup driver: they can stop other units, and make the unit fail. By the other one the
        # container has what the caller's groups may do
        "potentiallyUnsafeConfigAnnotations": [PROPERTY_ANNOTATION, KEEP_GROUPS_ANNOTATION],
        "linux": {
            "namespaces": sorted(flags.NAMESPACES),
            "capabilities": sorted(flags.CAPABILITIES, key=flags.CAPABILITIES.__getitem__),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
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
