"""For the tests of pyruntime.spec: configurations as plain objects that a test may change, and their loading."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyruntime.errors import InvalidBundleError
from pyruntime.spec import Spec, load_spec

# fields whose keys are the user's
MAPS = ("annotations", "netDevices", "rdma", "sysctl", "timeOffsets", "unified")

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")


def small() -> dict[str, Any]:
    """What `runc spec` writes, shortened."""
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
        },
    }


def full() -> dict[str, Any]:
    """Every field of the specification for Linux, none of them with its default."""
    mapping = {"containerID": 0, "hostID": 100000, "size": 65536}
    hook = {"path": "/usr/bin/hook", "args": ["hook", "1"], "env": ["A=1"], "timeout": 5}
    throttle = [{"major": 8, "minor": 1, "rate": 600}]
    config = {
        "ociVersion": "1.3.0",
        "root": {"path": "/srv/rootfs", "readonly": True},
        "mounts": [{
            "destination": "/data", "source": "/volumes/data", "type": "none", "options": ["rbind", "idmap"],
            "uidMappings": [mapping], "gidMappings": [mapping],
        }],
        "process": {
            "terminal": True,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 0o022, "additionalGids": [5, 6]},
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "EMPTY="],
            "cwd": "/root",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                             "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}],
            "noNewPrivileges": True,
            "apparmorProfile": "acme",
            "oomScoreAdj": -1000,
            "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0",
            "scheduler": {"policy": "SCHED_DEADLINE", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                          "runtime": 10_000_000, "deadline": 30_000_000, "period": 30_000_000},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "7", "final": "0-3,7"},
        },
        "hostname": "box",
        "domainname": "example.org",
        "hooks": {name: [hook] for name in ("prestart", "createRuntime", "createContainer", "startContainer",
                                                   "poststart", "poststop")},
        "annotations": {"org.example.key": "value", "org.example.empty": ""},
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES if name != "network"]
            + [{"type": "network", "path": "/run/netns/a"}],
            "uidMappings": [mapping],
            "gidMappings": [mapping],
            "timeOffsets": {"monotonic": {"secs": -7, "nanosecs": 999_999_999}, "boottime": {"secs": 7}},
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0,
                         "gid": 0}],
            "netDevices": {"eth0": {"name": "inner0"}, "eth1": {}},
            "cgroupsPath": "/pyruntime/box",
            "resources": {
                "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
                "memory": {"limit": 2**29, "reservation": 2**28, "swap": -1, "kernel": -1, "kernelTCP": -1,
                           "swappiness": 0, "disableOOMKiller": False, "useHierarchy": True,
                           "checkBeforeUpdate": True},
                "cpu": {"shares": 1024, "quota": 1_000_000, "burst": 1_000_000, "period": 500_000,
                        "realtimeRuntime": 950_000, "realtimePeriod": 1_000_000, "cpus": "2-3", "mems": "0-7",
                        "idle": 0},
                "pids": {"limit": 0},
                "blockIO": {"weight": 10, "leafWeight": 10,
                            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                            "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
                            "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 2**64 - 1}],
                "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
                "unified": {"hugetlb.1GB.max": "1073741824"},
            },
            "intelRdt": {"closID": "group", "schemata": ["L2:0=f"], "l3CacheSchema": "L3:0=7f0",
                         "memBwSchema": "MB:0=20", "enableMonitoring": True},
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]},
            "sysctl": {"net.core.somaxconn": "256"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent", "listenerMetadata": "m",
                "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535,
                              "args": [{"index": 5, "value": 2**64 - 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}],
            },
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0",
            "personality": {"domain": "LINUX32"},
        },
    }
    # so that no two places share an object
    return dict(json.loads(json.dumps(config)))


def of_other_platforms() -> dict[str, Any]:
    """Every field of every section that is not Linux's."""
    return {
        "freebsd": {
            "devices": [{"path": "pf", "mode": 0o600}],
            "jail": {"parent": "outer", "host": "new", "ip4": "inherit", "ip4Addr": ["10.1.2.3"], "ip6": "disable", "ip6Addr": ["fd10::1"],
                     "vnet": "new", "interface": "lo1", "vnetInterfaces": ["epair0b"], "sysvmsg": "new", "sysvsem": "disable",
                     "sysvshm": "inherit", "enforceStatfs": 2,
                     "allow": {"setHostname": True, "rawSockets": True, "chflags": True, "mount": ["tmpfs"], "quotas": True, "socketAf": True,
                               "mlock": True, "reservedPorts": True, "suser": True}},
        },
        "solaris": {
            "milestone": "svc:/milestone/container:default", "limitpriv": "default", "maxShmMemory": "512m", "cappedCPU": {"ncpus": "8"},
            "cappedMemory": {"physical": "1g", "swap": "2g"},
            "anet": [{"linkname": "net0", "lowerLink": "net1", "allowedAddress": "10.0.0.2", "configureAllowedAddress": "true",
                      "defrouter": "10.0.0.1", "macAddress": "02:42:f8:52:c7:16", "linkProtection": "mac-nospoof"}],
        },
        "vm": {
            "hypervisor": {"path": "/usr/bin/vmm", "parameters": ["opts1=foo"]},
            "kernel": {"path": "/boot/vmlinuz", "parameters": ["quiet"], "initrd": "/boot/initrd"},
            "image": {"path": "/srv/root.img", "format": "qcow2"},
            "hwConfig": {"deviceTree": "/srv/board.dtb", "vcpus": 2, "memory": 2**64 - 1, "dtdevs": ["/soc"], "irqs": [112],
                         "iomems": [{"firstGFN": 1, "firstMFN": 2, "nrMFNs": 3}]},
        },
        "windows": {
            "layerFolders": ["C:\\layer"], "devices": [{"id": "24E552D7", "idType": "class"}],
            "resources": {"memory": {"limit": 2**31}, "storage": {"iops": 50, "bps": 60, "sandboxSize": 70},
                          "cpu": {"count": 2, "shares": 10000, "maximum": 5000, "affinity": [{"mask": 3, "group": 1}]}},
            "network": {"endpointList": ["7a010682"], "allowUnqualifiedDNSQuery": True, "DNSSearchList": ["a.example"],
                        "networkSharedContainerName": "other", "networkNamespace": "168f3daf"},
            "credentialSpec": {"any": ["thing", {"type": ""}]}, "servicing": True, "ignoreFlushesDuringBoot": True,
            "hyperv": {"utilityVMPath": "C:\\vm"},
        },
        "zos": {"namespaces": [{"type": "ipc", "path": "/proc/7/ns/ipc"}]},
    }


Place = tuple[str | int, ...]


def json_path(place: Place) -> str:
    """The path in the notation of errors; the keys of maps are in brackets."""
    path, is_map = "$", False
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f'["{step}"]' if is_map else f".{step}"
        is_map = not is_map and step in MAPS
    return path


def case_id(value: object) -> str:
    """A test's name: the path of a place, or the beginning of a value."""
    return json_path(value) if isinstance(value, tuple) else repr(value)[:40]


def put(config: dict[str, Any], place: Place, value: object) -> dict[str, Any]:
    """Set the value at the place, making objects on the way; return the configuration."""
    at: Any = config
    for step in place[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    at[place[-1]] = value
    return config


def places(value: object, place: Place = ()) -> list[tuple[Place, object]]:
    """Every place in a configuration, with what stands there."""
    found = [(place, value)] if place else []
    if isinstance(value, dict):
        for key, element in value.items():
            found += places(element, (*place, key))
    elif isinstance(value, list):
        for i, element in enumerate(value):
            found += places(element, (*place, i))
    return found


def load(config: object) -> Spec:
    return load_spec(json.dumps(config).encode(), "/b/config.json")


def refusal(config: object) -> InvalidBundleError:
    """The error that loading raises."""
    with pytest.raises(InvalidBundleError) as caught:
        load(config)
    assert caught.value.file == "/b/config.json"
    return caught.value
