"""Fields that do not allow each other, and the JSON path that the error names."""

from __future__ import annotations

from typing import Any

import pytest
from spec_examples import full, load, put, refusal, small


def in_user_namespace(uids: list[tuple[int, int, int]]) -> dict[str, Any]:
    config = small()
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = [{"containerID": inner, "hostID": outer, "size": size}
                                      for inner, outer, size in uids]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    return config


@pytest.mark.parametrize(("scheduler", "field"), [
    ({"policy": "SCHED_FIFO"}, "priority"),
    ({"policy": "SCHED_RR", "priority": 0}, "priority"),
    ({"policy": "SCHED_RR", "priority": 100}, "priority"),
    ({"policy": "SCHED_OTHER", "priority": 1}, "priority"),
    ({"policy": "SCHED_BATCH", "runtime": 1}, "runtime"),
    ({"policy": "SCHED_IDLE", "deadline": 1}, "deadline"),
    ({"policy": "SCHED_FIFO", "priority": 1, "period": 1}, "period"),
    ({"policy": "SCHED_DEADLINE"}, "runtime"),
    ({"policy": "SCHED_DEADLINE", "runtime": 1024}, "deadline"),
    ({"policy": "SCHED_FIFO", "priority": 99}, None),
    ({"policy": "SCHED_OTHER", "nice": -20}, None),
    ({"policy": "SCHED_IDLE"}, None),
    ({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024}, None),
])
def test_scheduler(scheduler: dict[str, Any], field: str | None) -> None:
    config = put(small(), ("process", "scheduler"), scheduler)
    if field is None:
        load(config)
    else:
        assert refusal(config).json_path == f"$.process.scheduler.{field}"


@pytest.mark.conformance(16)
def test_rlimits() -> None:
    def with_limits(*limits: tuple[str, int, int]) -> dict[str, Any]:
        return put(small(), ("process", "rlimits"), [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
                                                     for name, soft, hard in limits])

    error = refusal(with_limits(("CORE", 0, 0), ("NOFILE", 1, 2), ("CORE", 0, 0)))
    assert (error.json_path, error.reason) == ("$.process.rlimits[2].type", "'RLIMIT_CORE' is given twice")
    error = refusal(with_limits(("CORE", 0, 0), ("NOFILE", 3, 2)))
    assert (error.json_path, error.reason) == ("$.process.rlimits[1].soft", "is 3, above the hard limit 2")


@pytest.mark.conformance(12)
def test_console_size_is_ignored_without_a_terminal() -> None:
    config = put(small(), ("process", "consoleSize"), {"height": 2**40, "width": 0})
    assert refusal(config).json_path == "$.process.consoleSize.height"
    config["process"]["terminal"] = False
    load(config)


@pytest.mark.conformance(29)
@pytest.mark.parametrize("field", ["uidMappings", "gidMappings"])
def test_mappings_need_a_user_namespace(field: str) -> None:
    config = put(small(), ("linux", field), [{"containerID": 0, "hostID": 0, "size": 1}])
    error = refusal(config)
    assert (error.json_path, error.reason) == (f"$.linux.{field}", "needs a user namespace")
    # containerd gives a joined namespace's mappings too
    config["linux"]["namespaces"].append({"type": "user", "path": "/proc/7/ns/user"})
    load(config)


@pytest.mark.conformance(29)
@pytest.mark.parametrize(("uids", "place"), [
    ([(0, 1000, 10), (9, 5000, 1)], "[1].containerID"),
    ([(0, 1000, 10), (10, 1009, 1)], "[1].hostID"),
    ([(10, 1000, 10), (0, 5000, 11)], "[1].containerID"),
    ([(0, 1000, 1), (5, 50, 1), (5, 60, 1)], "[2].containerID"),
    ([(0, 2**32 - 2, 2)], "[0].size"),
    ([(i, i, 1) for i in range(341)], ""),
    ([(0, 1000, 10), (10, 1010, 1), (20, 999, 1)], None),
    ([(0, 0, 2**32 - 1)], None),
    ([(i, i, 1) for i in range(340)], None),
])
def test_mappings(uids: list[tuple[int, int, int]], place: str | None) -> None:
    if place is None:
        load(in_user_namespace(uids))
    else:
        assert refusal(in_user_namespace(uids)).json_path == f"$.linux.uidMappings{place}"


def test_the_user_of_a_joined_user_namespace_is_not_looked_for() -> None:
    config = put(small(), ("process", "user", "uid"), 1000)
    config["linux"]["namespaces"].append({"type": "user", "path": "/proc/7/ns/user"})
    load(config)


@pytest.mark.conformance(30)
def test_time_offsets_need_a_new_time_namespace() -> None:
    config = put(small(), ("linux", "timeOffsets"), {"boottime": {"secs": 1}})
    assert refusal(config).reason == "needs a time namespace"
    config["linux"]["namespaces"].append({"type": "time"})
    load(config)
    config["linux"]["namespaces"][-1]["path"] = "/proc/7/ns/time"
    error = refusal(config)
    assert error.json_path == "$.linux.timeOffsets" and "'/proc/7/ns/time'" in error.reason


@pytest.mark.conformance(33)
def test_net_devices() -> None:
    devices = {"eth0": {"name": "a"}, "eth1": {"name": "a"}}
    assert refusal(put(small(), ("linux", "netDevices"), devices)).json_path == '$.linux.netDevices["eth1"].name'
    devices = {"eth0": {"name": "eth1"}, "eth1": {}}
    assert refusal(put(small(), ("linux", "netDevices"), devices)).json_path == '$.linux.netDevices["eth1"]'
    load(put(small(), ("linux", "netDevices"), {"eth0": {"name": "eth1"}, "eth1": {"name": "eth0"}}))
    load(put(small(), ("linux", "netDevices"), {"eth0": {"name": "a%d"}, "eth1": {"name": "a%d"}}))


@pytest.mark.conformance(49)
@pytest.mark.parametrize("key", [
    "kernel.core_pattern", "kernel/core_pattern", "vm.overcommit_memory", "kernel.hostname", "kernel/hostname", "net",
    "user", "kernel", "fs.mqueue", "fs.mqueuex.y", "netx.y", "", ".", "/", "net.", ".net.x", "/net/x", "net..x",
    "net//x", "net/../kernel/core_pattern", "net.//.kernel", "net/./x", "net./.x", "net/x/..", "../net/x", "net/ipv4/",
    "kernel.sem/",
])
def test_refused_sysctl(key: str) -> None:
    # in every namespace
    config = put(full(), ("linux", "sysctl"), {"net.core.somaxconn": "1", key: "1"})
    assert refusal(config).json_path == f'$.linux.sysctl["{key}"]'


@pytest.mark.conformance(31)
def test_devices() -> None:
    def with_devices(*devices: dict[str, Any]) -> dict[str, Any]:
        return put(small(), ("linux", "devices"), list(devices))

    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    assert refusal(with_devices(fuse, fuse)).json_path == "$.linux.devices[1].path"
    load(with_devices(fuse, {**fuse, "path": "/dev/other"}))
    for kind in "cbu":
        assert refusal(with_devices({"path": "/x", "type": kind, "minor": 1})).json_path == "$.linux.devices[0].major"
        assert refusal(with_devices({"path": "/x", "type": kind, "major": 1})).json_path == "$.linux.devices[0].minor"
    load(with_devices({"path": "/x", "type": "p", "major": 0, "minor": 0}))
    for name in ("major", "minor"):
        assert refusal(with_devices({"path": "/x", "type": "p", name: 1})).json_path == f"$.linux.devices[0].{name}"


@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_bind_mount_needs_a_source(option: str) -> None:
    """The bundle itself, which a missing one would name as a relative path, is none of the container's business."""
    for mount in ({}, {"source": None}, {"source": ""}):
        config = small()
        config["mounts"].append({"destination": "/data", "type": "none", "options": ["ro", option], **mount})
        error = refusal(config)
        assert (error.json_path, error.reason) == ("$.mounts[2].source", "is required for a bind mount, but missing or empty")


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_mapped_mount_needs_mappings(option: str) -> None:
    config = put(small(), ("mounts", 0, "options"), ["rbind", option])
    assert refusal(config).json_path == "$.mounts[0].options"
    config["linux"]["namespaces"].append({"type": "user", "path": "/proc/7/ns/user"})
    load(config)


@pytest.mark.conformance(50)
@pytest.mark.parametrize(("seccomp", "place"), [
    ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_NOTIFY", "defaultErrnoRet": 1, "listenerPath": "/x"}, "defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "listenerPath"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]}, "listenerPath"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}, "listenerMetadata"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG"},
                                                      {"names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 0}]},
     "syscalls[1].errnoRet"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}]},
     "syscalls[0].errnoRet"),
    ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "x"}, "listenerPath"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "flags[1]"),
    ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, None),
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}, None),
    ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "x"}, None),
    ({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65535}, None),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}],
      "listenerPath": "/x", "listenerMetadata": "m"}, None),
])
def test_seccomp(seccomp: dict[str, Any], place: str | None) -> None:
    config = put(small(), ("linux", "seccomp"), seccomp)
    if place is None:
        load(config)
    else:
        assert refusal(config).json_path == f"$.linux.seccomp.{place}"


@pytest.mark.parametrize("mode", ["MPOL_DEFAULT", "MPOL_LOCAL"])
def test_memory_policy_without_nodes(mode: str) -> None:
    error = refusal(put(small(), ("linux", "memoryPolicy"), {"mode": mode, "nodes": "0"}))
    assert error.json_path == "$.linux.memoryPolicy.nodes"


@pytest.mark.parametrize("mode", ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY"])
def test_memory_policy_with_nodes(mode: str) -> None:
    error = refusal(put(small(), ("linux", "memoryPolicy"), {"mode": mode}))
    assert error.json_path == "$.linux.memoryPolicy.nodes"


def test_personality_has_no_flags() -> None:
    config = put(small(), ("linux", "personality"), {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})
    error = refusal(config)
    assert error.json_path == "$.linux.personality.flags[0]" and "'ADDR_NO_RANDOMIZE'" in error.reason


def test_process_is_checked_where_it_is_given() -> None:
    config = small()
    del config["process"]
    assert load(config).process is None
    assert refusal({**config, "process": {}}).json_path == "$.process.cwd"
