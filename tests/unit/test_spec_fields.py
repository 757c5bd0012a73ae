"""Fields: their names, types and absence; what the package offers."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from typing import Any

import msgspec
import pytest
from spec_examples import MAPS, Place, case_id, full, json_path, load, of_other_platforms, places, put, refusal, small

import pyruntime
from pyruntime import spec as spec_package
from pyruntime.errors import UnsupportedFieldError
from pyruntime.spec import (
    CPU,
    Capabilities,
    DeviceCgroupType,
    Linux,
    Memory,
    NamespaceType,
    Pids,
    Resources,
    RootfsPropagation,
    Spec,
    platforms,
    sysctl_path,
)


def test_small_configuration() -> None:
    spec = load(small())
    assert spec.root.path == "rootfs" and spec.root.readonly
    assert spec.process is not None
    assert spec.process.args == ("sh",)
    names = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    assert spec.process.capabilities == Capabilities(bounding=names, effective=names, permitted=names)
    assert spec.mounts[1].options == ("nosuid", "mode=755")
    assert [namespace.type for namespace in spec.linux.namespaces] == [
        NamespaceType.PID, NamespaceType.NETWORK, NamespaceType.IPC, NamespaceType.UTS, NamespaceType.MOUNT]
    assert spec.linux.resources is not None
    assert spec.linux.resources.devices[0].type is DeviceCgroupType.ALL
    assert spec.linux.namespace(NamespaceType.UTS) == spec.linux.namespaces[3]
    assert spec.linux.namespace(NamespaceType.USER) is None


def test_every_field_is_read_under_its_name() -> None:
    # what is written back is what was read, so no field was taken for an unknown one
    config = full()
    assert json.loads(msgspec.json.encode(load(config))) == config


def structs() -> list[type[msgspec.Struct]]:
    return [value for name in spec_package.__all__
            if isinstance(value := getattr(spec_package, name), type) and issubclass(value, msgspec.Struct)]


PLATFORMS = ("freebsd", "solaris", "vm", "windows", "zos")


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_the_full_configuration_has_every_field(struct: type[msgspec.Struct]) -> None:
    present: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, msgspec.Struct):
            if isinstance(value, struct):
                present.update(json.loads(msgspec.json.encode(value)))
            for field in value.__struct_fields__:
                collect(getattr(value, field))
        elif isinstance(value, tuple | dict):
            for element in value.values() if isinstance(value, dict) else value:
                collect(element)

    config = full()
    collect(load(config))
    config["process"]["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    collect(load(config))
    # of which no value is valid on Linux
    valueless = {"Personality": {"flags"}, "Spec": set(PLATFORMS), "Process": {"commandLine"},
                 "User": {"username"}}.get(struct.__name__, set())
    assert set(struct.__struct_encode_fields__) - valueless == present


def test_nothing_but_version_and_root_is_required() -> None:
    spec = load({"ociVersion": "1.0.0", "root": {"path": "rootfs"}})
    assert spec.process is None
    assert spec.linux == Linux()
    assert spec.hostname is None and spec.mounts == () and spec.annotations == {} and spec.hooks.prestart == ()


def test_absent_differs_from_zero_and_empty() -> None:
    config = small()
    config["linux"]["resources"] = {"pids": {}, "memory": {"limit": 0}, "cpu": {"idle": 0}}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": []}
    config["process"]["capabilities"] = {}
    spec = load(config)
    assert spec.linux.resources == Resources(pids=Pids(limit=None), memory=Memory(limit=0), cpu=CPU(idle=0))
    assert spec.linux.resources.memory is not None and spec.linux.resources.memory.swap is None
    assert spec.linux.seccomp is not None and spec.linux.seccomp.flags == ()
    assert spec.process is not None and spec.process.capabilities == Capabilities()
    del config["linux"]["resources"], config["linux"]["seccomp"]["flags"], config["process"]["capabilities"]
    spec = load(config)
    assert spec.linux.resources is None
    assert spec.linux.seccomp is not None and spec.linux.seccomp.flags is None
    assert spec.process is not None and spec.process.capabilities is None


REQUIRED = {
    "ociVersion", "root", "root.path", "mounts.destination", "mounts.source", "mounts.uidMappings", "mounts.gidMappings",
    "process.args", "process.cwd", "process.consoleSize.height", "process.consoleSize.width", "process.rlimits.type",
    "process.rlimits.soft", "process.rlimits.hard", "process.scheduler.policy",
    "process.ioPriority.class", "process.ioPriority.priority",
    *(f"hooks.{name}.path" for name in full()["hooks"]),
    *(f"{at}.{ids}Mappings.{field}" for at in ("mounts", "linux") for ids in ("uid", "gid")
      for field in ("containerID", "hostID", "size")),
    "linux.uidMappings", "linux.gidMappings", "linux.namespaces.type", "linux.devices.path", "linux.devices.type",
    "linux.devices.major", "linux.devices.minor", "linux.resources.devices.allow",
    *(f"linux.resources.blockIO.{name}.{field}" for name in full()["linux"]["resources"]["blockIO"] if "Device" in name
      for field in ("major", "minor", "rate") if (name, field) != ("weightDevice", "rate")),
    "linux.resources.hugepageLimits.pageSize", "linux.resources.hugepageLimits.limit",
    "linux.resources.network.priorities.name", "linux.resources.network.priorities.priority",
    "linux.memoryPolicy.mode", "linux.memoryPolicy.nodes", "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls.names", "linux.seccomp.syscalls.action", "linux.seccomp.syscalls.args.index",
    "linux.seccomp.syscalls.args.value", "linux.seccomp.syscalls.args.op", "linux.personality.domain",
}
# whose absence another field does not allow, in the full configuration
NEEDED = {"linux", "linux.namespaces", "process.scheduler.runtime", "process.scheduler.deadline",
          "linux.seccomp.listenerPath"}


def fields() -> list[tuple[Place, str]]:
    """The places of fields, and their names without indices and the keys of maps."""
    found = []
    for place, _ in places(full()):
        steps = [step for i, step in enumerate(place) if isinstance(step, str) and (i == 0 or place[i - 1] not in MAPS)]
        if isinstance(place[-1], str) and steps[-1] == place[-1]:
            found.append((place, ".".join(steps)))
    return found


def test_the_table_of_required_fields_is_of_existing_fields() -> None:
    assert {name for _, name in fields()} >= REQUIRED | NEEDED


@pytest.mark.parametrize("place", [place for place, name in fields() if name not in REQUIRED | NEEDED], ids=json_path)
def test_null_is_absent(place: Place) -> None:
    without = full()
    at: Any = without
    for step in place[:-1]:
        at = at[step]
    del at[place[-1]]
    assert load(put(full(), place, None)) == load(without)


def test_nulls_as_go_writes_them() -> None:
    config = small()
    config["mounts"] = config["hooks"] = config["annotations"] = None
    config["process"].update(rlimits=None, env=None, capabilities=None)
    config["linux"].update(resources=None, maskedPaths=None, namespaces=None, readonlyPaths=None)
    del config["hostname"]
    spec = load(config)
    assert spec.mounts == () and spec.linux == Linux()
    assert spec.process is not None and spec.process.env == () and spec.process.rlimits == ()
    assert load({**config, "linux": None}).linux == Linux()


def test_empty_strings_that_go_leaves_out_are_absent() -> None:
    config = small()
    config.update(hostname="", domainname="")
    config["process"].update(apparmorProfile="", selinuxLabel="")
    config["mounts"][0].update(type="", source="")
    config["linux"].update(cgroupsPath="", rootfsPropagation="", mountLabel="", annotations={"path": ""})
    config["linux"]["namespaces"][0]["path"] = ""
    config["annotations"] = {"path": "", "type": ""}
    config["linux"]["resources"] = {"cpu": {"cpus": "", "mems": ""}, "devices": [{"allow": True, "type": ""}]}
    spec = load(config)
    assert spec.hostname is None and spec.process is not None and spec.process.apparmor_profile is None
    assert spec.linux.namespaces[0].path is None and spec.linux.rootfs_propagation is None
    assert spec.linux.resources is not None and spec.linux.resources.cpu == CPU()
    assert spec.linux.resources.devices[0].type is DeviceCgroupType.ALL
    # there the keys are the user's
    assert spec.annotations == {"path": "", "type": ""}


@pytest.mark.conformance(25)
def test_unknown_fields_are_ignored() -> None:
    config = full()
    for place, value in places(full()):
        if isinstance(value, dict) and place[-1] not in ("annotations", "netDevices", "rdma", "sysctl", "timeOffsets",
                                                         "unified", "linux"):
            put(config, (*place, "futureField"), {"type": None})
    config["linux"]["future"] = ["x"]
    assert load(config) == load(full())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_document_of_another_platform_is_a_good_one(platform: str) -> None:
    """What its section may hold is in a module that nothing else needs."""
    section = of_other_platforms()[platform]
    least = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}
    loaded = load({**least, "hostname": "h", "process": {"args": ["sh"], "cwd": "/"}, platform: section})
    assert getattr(loaded, platform) == section
    # every field is known, as nothing is left out where it is written again
    assert json.loads(msgspec.json.encode(msgspec.convert({platform: section}, platforms.OtherPlatforms))) == {platform: section}
    assert load({**least, platform: None}) == load(least)


def test_a_process_of_windows() -> None:
    """It has a command line and paths of its own."""
    section = of_other_platforms()["windows"]
    process = {"commandLine": "cmd /c dir", "cwd": "C:\\users", "user": {"username": "ContainerUser"}}
    spec = load({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": process, "windows": section})
    assert spec.process is not None and spec.process.command_line == "cmd /c dir" and spec.process.user.username == "ContainerUser"
    assert refusal({**small(), "process": {**process, "cwd": "C:\\users"}}).json_path == "$.process.cwd"


def other_platforms_wrong_types() -> list[tuple[Place, object]]:
    return [(place, 3 if isinstance(value, str) else "wrong") for place, value in places(of_other_platforms())
            if place[:2] != ("windows", "credentialSpec") or len(place) == 2]


@pytest.mark.parametrize(("place", "wrong"), other_platforms_wrong_types(), ids=case_id)
def test_wrong_type_for_another_platform(place: Place, wrong: object) -> None:
    error = refusal({**small(), str(place[0]): put(of_other_platforms(), place, wrong)[str(place[0])]})
    assert not isinstance(error, UnsupportedFieldError) and error.json_path == json_path(place)
    assert error.reason.startswith("expected ")


@pytest.mark.parametrize(("place", "wrong"), [
    *((("freebsd", "jail", name), "disable") for name in ("host", "vnet")),
    *((("freebsd", "jail", name), "old") for name in ("ip4", "ip6", "sysvmsg", "sysvsem", "sysvshm")),
    (("freebsd", "jail", "enforceStatfs"), 256), (("freebsd", "devices", 0, "mode"), 0o10000),
    (("vm", "image", "format"), "iso"), (("vm", "hwConfig", "vcpus"), 2**32), (("vm", "hwConfig", "memory"), 2**64),
    (("vm", "hwConfig", "irqs", 0), -1), *((("vm", "hwConfig", "iomems", 0, name), 2**64) for name in ("firstGFN", "firstMFN", "nrMFNs")),
    (("windows", "layerFolders"), []), (("windows", "devices", 0, "idType"), "kind"), (("windows", "resources", "memory", "limit"), -1),
    *((("windows", "resources", "cpu", name), 2**16) for name in ("shares", "maximum")), (("windows", "resources", "cpu", "count"), 2**64),
    (("windows", "resources", "cpu", "affinity", 0, "group"), 2**32), (("windows", "resources", "cpu", "affinity", 0, "mask"), 2**64),
    *((("windows", "resources", "storage", name), 2**64) for name in ("iops", "bps", "sandboxSize")),
    (("zos", "namespaces", 0, "type"), "network"),
], ids=case_id)
def test_out_of_range_for_another_platform(place: Place, wrong: object) -> None:
    assert refusal({**small(), str(place[0]): put(of_other_platforms(), place, wrong)[str(place[0])]}).json_path == json_path(place)


@pytest.mark.parametrize("place", [
    ("vm", "kernel"), ("vm", "kernel", "path"), ("vm", "hypervisor", "path"), ("vm", "image", "path"), ("vm", "image", "format"),
    ("vm", "hwConfig", "iomems", 0, "firstMFN"), ("vm", "hwConfig", "iomems", 0, "nrMFNs"), ("windows", "layerFolders"),
    ("windows", "devices", 0, "id"), ("windows", "devices", 0, "idType"), ("windows", "resources", "cpu", "affinity", 0, "mask"),
    ("windows", "resources", "cpu", "affinity", 0, "group"), ("zos", "namespaces", 0, "type"),
], ids=json_path)
def test_required_for_another_platform(place: Place) -> None:
    error = refusal({**small(), str(place[0]): put(of_other_platforms(), place, None)[str(place[0])]})
    assert error.json_path == json_path(place) and "is required" in error.reason


@pytest.mark.conformance(37)
def test_minus_one_is_every_device_number() -> None:
    config = put(small(), ("linux", "resources", "devices"), [{"allow": True, "type": "b", "major": 8, "minor": -1}])
    resources = load(config).linux.resources
    assert resources is not None
    assert (resources.devices[0].major, resources.devices[0].minor) == (8, None)


def test_the_file_type_in_a_device_mode_is_dropped() -> None:
    # cri-o and docker write st_mode
    device = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 8630}
    config = put(small(), ("linux", "devices"), [device])
    assert load(config).linux.devices[0].file_mode == 0o666


def test_recursive_propagation_of_docker() -> None:
    config = put(small(), ("linux", "rootfsPropagation"), "rslave")
    assert load(config).linux.rootfs_propagation is RootfsPropagation.RSLAVE


@pytest.mark.conformance(1)
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0", "1.0.0-rc5", "1.2.3-a.1.-+0build.7",
                                     "1.2.3+x", "0.5.0-dev"])
def test_versions(version: str) -> None:
    assert load(put(small(), ("ociVersion",), version)).oci_version == version


@pytest.mark.conformance(1)
@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0-", "1.0.0+", "1.0.0-01", "01.0.0", "1.0.0-a..b",
                                     "1.0.x", "1.0.0 ", "1.0.0-é", "１.0.0", "1..0"])
def test_not_versions(version: str) -> None:
    error = refusal(put(small(), ("ociVersion",), version))
    assert error.json_path == "$.ociVersion" and repr(version) in error.reason


@pytest.mark.conformance(1)
@pytest.mark.parametrize("version", ["2.0.0", "10.0.0"])
def test_other_major_versions_are_unsupported(version: str) -> None:
    error = refusal(put(small(), ("ociVersion",), version))
    assert isinstance(error, UnsupportedFieldError) and error.json_path == "$.ociVersion"


# wrong types


def wrong_types() -> list[tuple[Place, object]]:
    cases: list[tuple[Place, object]] = []
    for place, value in places(full()):
        cases.append((place, 3 if isinstance(value, str) else "wrong"))
        if isinstance(value, int):
            cases.append((place, 1.5))
        if isinstance(value, int) and not isinstance(value, bool):
            cases.append((place, True))
    return cases


@pytest.mark.parametrize(("place", "wrong"), wrong_types(), ids=case_id)
def test_wrong_type(place: Place, wrong: object) -> None:
    error = refusal(put(full(), place, wrong))
    assert error.json_path == json_path(place)
    assert error.reason.startswith("expected ") and error.reason.endswith(f"got {json.dumps(wrong)}".replace('"', "'"))


@pytest.mark.parametrize("place", [place for place, name in fields() if name in REQUIRED], ids=json_path)
def test_required_field(place: Place) -> None:
    config = full()
    at: Any = config
    for step in place[:-1]:
        at = at[step]
    del at[place[-1]]
    error = refusal(config)
    assert error.json_path == json_path(place) and "is required" in error.reason
    # null is the same
    at[place[-1]] = None
    assert refusal(config).json_path == json_path(place)


def test_a_required_field_may_be_there_in_other_letters() -> None:
    """As Go's decoder takes it; what else there is of the name stays unknown, and an error is of the name that the specification has."""
    limits = [{"pagesize": "2MB", "limit": 5}, {"PAGESIZE": "1GB", "Limit": 6}]
    config = put(put(small(), ("linux", "resources"), {"hugepageLimits": limits}), ("process", "CWD"), "/tmp")
    del config["process"]["cwd"]
    spec = load(config)
    assert spec.linux.resources is not None and spec.process is not None and spec.process.cwd == "/tmp"
    assert [(limit.page_size, limit.limit) for limit in spec.linux.resources.hugepage_limits] == [("2MB", 5), ("1GB", 6)]
    limits[1]["pageSIZE"] = "1GB"
    assert refusal(config).json_path == "$.linux.resources.hugepageLimits[1].pageSize"
    limits[1] = {"pagesize": 3, "limit": 6}
    assert refusal(config).json_path == "$.linux.resources.hugepageLimits[1].pageSize"
    config = put(small(), ("process", "Cwd"), "/tmp")
    assert load(config).process == load(small()).process


def test_the_root_is_an_object() -> None:
    config: object
    for config in ([], 3, "x", None):
        error = refusal(config)
        assert error.json_path == "$" and error.reason.startswith("expected an object, got ")


def test_null_in_an_array_or_a_map_is_a_wrong_value() -> None:
    assert refusal(put(small(), ("process", "args"), ["sh", None])).json_path == "$.process.args[1]"
    error = refusal(put(small(), ("annotations",), {"a": "1", "b": None, "c": None}))
    assert (error.json_path, error.reason) == ('$.annotations["b"]', "expected a string, got null")


def test_the_refused_key_of_a_large_map_is_found() -> None:
    annotations: dict[str, Any] = {f"key.{i}": "" for i in range(1000)}
    annotations["key.617"] = {}
    annotations["key.900"] = {}
    assert refusal(put(small(), ("annotations",), annotations)).json_path == '$.annotations["key.617"]'


def test_a_map_below_a_map() -> None:
    rdma = {"a": {"hcaHandles": 1}, 'b"\\é': {"hcaHandles": -1}}
    error = refusal(put(full(), ("linux", "resources", "rdma"), rdma))
    assert error.json_path == '$.linux.resources.rdma["b\\"\\\\é"].hcaHandles'
    assert error.reason == "is -1, but must be at least 0"


def test_enumerations_name_their_values() -> None:
    error = refusal(put(small(), ("linux", "namespaces", 2, "type"), "net"))
    assert error.json_path == "$.linux.namespaces[2].type"
    assert error.reason == "is 'net', but must be one of pid, network, mount, ipc, uts, user, cgroup, time"
    error = refusal(put(full(), ("linux", "rootfsPropagation"), "none"))
    assert "'none', but must be one of private, shared" in error.reason
    error = refusal(put(full(), ("linux", "timeOffsets", "realtime"), {}))
    assert error.json_path == '$.linux.timeOffsets["realtime"]'
    assert error.reason == "the key is 'realtime', but must be one of boottime, monotonic"


def test_long_values_are_cut() -> None:
    error = refusal(put(small(), ("process", "terminal"), "x" * 10_000))
    assert len(error.reason) < 200


@pytest.mark.conformance(49)
@pytest.mark.parametrize(("key", "path"), [
    ("net.core.somaxconn", "net/core/somaxconn"),
    ("net/core/somaxconn", "net/core/somaxconn"),
    ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
    ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
    ("kernel", "kernel"),
])
def test_sysctl_path(key: str, path: str) -> None:
    assert sysctl_path(key) == path


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load(small()).root.path = "/"  # type: ignore[misc]


def test_every_struct_is_exported() -> None:
    seen: set[type] = set()

    def collect(declared: object) -> None:
        if isinstance(declared, type) and issubclass(declared, msgspec.Struct) and declared not in seen:
            seen.add(declared)
            for hint in typing.get_type_hints(declared).values():
                collect(hint)
        for argument in typing.get_args(declared):
            collect(argument)

    collect(Spec)
    assert seen == set(structs())


def test_import_is_light() -> None:
    # without what the package itself imports
    script = f"""
import sys, types, msgspec
sys.modules["pyruntime"] = types.ModuleType("pyruntime")
sys.modules["pyruntime"].__path__ = {list(pyruntime.__path__)!r}
before = set(sys.modules)
import pyruntime.spec
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "subprocess", "dataclasses", "pyroute2", "json", "logging"}
    # what only an error needs
    assert not loaded & {"pyruntime.spec.explain", "pyruntime.spec.platforms"}
    assert "pyruntime.spec.load" in loaded
