"""Loading: files, JSON, types, absent values, names of fields."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import subprocess
import sys
import types
import typing
from typing import Any

import msgspec
import pytest

from pyruntime import spec as spec_package
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.spec import (
    CPU,
    Capabilities,
    DeviceCgroupType,
    Linux,
    Memory,
    NamespaceType,
    Pids,
    Process,
    Resources,
    RootfsPropagation,
    Spec,
    User,
    decode_process,
    decode_resources,
    load_bundle,
    load_spec,
    sysctl_path,
)
from tests.unit.spec_examples import Place, full, json_path, places, put, small


def load(config: object) -> Spec:
    return load_spec(json.dumps(config).encode(), "/b/config.json")


def refusal(config: object) -> InvalidBundleError:
    with pytest.raises(InvalidBundleError) as caught:
        load(config)
    assert caught.value.file == "/b/config.json"
    return caught.value


# what is accepted


def test_small_configuration() -> None:
    spec = load(small())
    assert spec.root.path == "rootfs" and spec.root.readonly
    assert spec.process is not None
    assert spec.process.args == ("sh",)
    assert spec.process.capabilities == Capabilities(
        **dict.fromkeys(("bounding", "effective", "permitted"), ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")))
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
    # of which no value is valid
    valueless = {"flags"} if struct.__name__ == "Personality" else set()
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


REQUIRED = {"ociVersion", "root", "path", "destination", "cwd", "type", "soft", "hard", "policy", "class", "priority",
            "containerID", "hostID", "size", "major", "minor", "rate", "pageSize", "limit", "name", "allow", "mode",
            "defaultAction", "names", "action", "index", "value", "op", "domain", "height", "width", "args"}


def optional_places() -> list[Place]:
    """The fields, apart from what is required and from keys of maps, whose absence is no contradiction either."""
    contradictions = {"uidMappings", "gidMappings", "listenerPath", "nodes", "runtime", "deadline", "weight", "namespaces"}
    maps = ("annotations", "netDevices", "rdma", "sysctl", "timeOffsets", "unified")
    return [place for place, _ in places(full()) if isinstance(place[-1], str)
            and place[-1] not in REQUIRED | contradictions and (len(place) < 2 or place[-2] not in maps)]


@pytest.mark.parametrize("place", optional_places(), ids=json_path)
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


def test_unknown_fields_are_ignored() -> None:
    config = full()
    for place, value in places(full()):
        if isinstance(value, dict) and place[-1] not in ("annotations", "netDevices", "rdma", "sysctl", "timeOffsets",
                                                         "unified", "linux"):
            put(config, (*place, "futureField"), {"type": None})
    config["process"]["commandLine"] = 3
    config["windows"] = config["linux"]["future"] = ["x"]
    assert load(config) == load(full())


def test_minus_one_is_every_device_number() -> None:
    config = put(small(), ("linux", "resources", "devices"), [{"allow": True, "type": "b", "major": 8, "minor": -1}])
    resources = load(config).linux.resources
    assert resources is not None
    assert (resources.devices[0].major, resources.devices[0].minor) == (8, None)


def test_the_file_type_in_a_device_mode_is_dropped() -> None:
    # cri-o and docker write st_mode
    config = put(small(), ("linux", "devices"), [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 8630}])
    assert load(config).linux.devices[0].file_mode == 0o666


def test_recursive_propagation_of_docker() -> None:
    assert load(put(small(), ("linux", "rootfsPropagation"), "rslave")).linux.rootfs_propagation is RootfsPropagation.RSLAVE


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0", "1.0.0-rc5", "1.2.3-a.1.-+0build.7", "1.2.3+x"])
def test_versions(version: str) -> None:
    assert load(put(small(), ("ociVersion",), version)).oci_version == version


@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0-", "1.0.0+", "1.0.0-01", "01.0.0", "1.0.0-a..b",
                                     "1.0.x", "1.0.0 ", "1.0.0-é", "１.0.0", "1..0"])
def test_not_versions(version: str) -> None:
    error = refusal(put(small(), ("ociVersion",), version))
    assert error.json_path == "$.ociVersion" and repr(version) in error.reason


@pytest.mark.parametrize("version", ["0.1.0", "2.0.0"])
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


@pytest.mark.parametrize(("place", "wrong"), wrong_types(), ids=lambda value: json_path(value) if isinstance(value, tuple) else repr(value))
def test_wrong_type(place: Place, wrong: object) -> None:
    error = refusal(put(full(), place, wrong))
    assert error.json_path == json_path(place)
    assert error.reason.startswith("expected ") and error.reason.endswith(f"got {json.dumps(wrong)}".replace('"', "'"))


@pytest.mark.parametrize("place", [place for place, value in places(full()) if place[-1] in REQUIRED - {"args"}
                                   and not (place[-1] in ("limit",) and place[-2] in ("memory", "pids"))
                                   and not (place[-1] == "type" and place[-3] in ("mounts",) or place[-2] == "annotations")
                                   and not (place[-1] == "name" and place[-3] == "netDevices")
                                   and not (place[-1] in ("major", "minor", "type") and place[-3] == "devices"
                                            and place[-4] == "resources")
                                   and not (place[-1] == "path" and place[-3] == "namespaces")
                                   and not (place[-1] == "priority" and place[-2] == "scheduler")],
                         ids=json_path)
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


def test_the_root_is_an_object() -> None:
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


# files and JSON


def bundle(directory: pathlib.Path, content: bytes) -> str:
    (directory / "config.json").write_bytes(content)
    return str(directory)


def file_refusal(path: str) -> InvalidBundleError:
    with pytest.raises(InvalidBundleError) as caught:
        load_bundle(path)
    return caught.value


def test_load_bundle(tmp_path: pathlib.Path) -> None:
    assert load_bundle(bundle(tmp_path, json.dumps(small()).encode())) == load(small())


def test_load_bundle_larger_than_one_read(tmp_path: pathlib.Path) -> None:
    config = put(small(), ("annotations",), {"long": "x" * 2**20})
    assert load_bundle(bundle(tmp_path, json.dumps(config).encode())) == load(config)


def test_errors_name_the_file(tmp_path: pathlib.Path) -> None:
    error = file_refusal(bundle(tmp_path, json.dumps(put(small(), ("process", "cwd"), "x")).encode()))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), "$.process.cwd")
    assert str(error) == f"{tmp_path}/config.json: $.process.cwd: 'x' is not an absolute path"


def test_missing_bundle(tmp_path: pathlib.Path) -> None:
    error = file_refusal(str(tmp_path / "none"))
    assert (error.file, error.json_path) == (str(tmp_path / "none"), None)
    assert error.reason == "the bundle directory does not exist"
    (tmp_path / "file").touch()
    error = file_refusal(str(tmp_path / "file"))
    assert error.reason == "the bundle directory is not a directory"


def test_missing_config(tmp_path: pathlib.Path) -> None:
    error = file_refusal(str(tmp_path))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), None)
    assert "ENOENT" in error.reason


def test_config_is_no_regular_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert "not a regular file" in file_refusal(str(tmp_path)).reason
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")
    assert "not a regular file" in file_refusal(str(tmp_path)).reason


def test_unreadable_config(tmp_path: pathlib.Path) -> None:
    # a loop of links, since root may read everything
    (tmp_path / "config.json").symlink_to("config.json")
    error = file_refusal(str(tmp_path))
    assert error.json_path is None and "ELOOP" in error.reason


def test_nul_in_the_path() -> None:
    assert "NUL" in file_refusal("/bundle\0").reason


def test_too_large(tmp_path: pathlib.Path) -> None:
    bundle(tmp_path, b"{}")
    os.truncate(tmp_path / "config.json", 64 * 2**20 + 1)
    error = file_refusal(str(tmp_path))
    assert error.json_path is None and "larger than 67108864 bytes" in error.reason


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "is empty"),
    (b" \n\t", "is empty"),
    (b'{\n  "a": tru\n}', "line 2, column 8"),
    (b'{"a": "b"', "line 1, column 10"),
    (b'{}\n\n x', "extra data, at line 3, column 2"),
    (b'{"a": 1,}', "line 1, column"),
    (b'{"a": "\x00"}', "line 1, column 8"),
    (b'{"unknown": "\xff"}', "is not UTF-8: byte 13 is 0xff"),
    (b'{"ociVersion": "\xff"}', "is not UTF-8: byte 16 is 0xff"),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b'{"ociVersion": "\\ud800"}', "surrogate"),
    (b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b"\x80", "is not UTF-8: byte 0 is 0x80"),
], ids=lambda value: repr(value[:24]))
def test_not_json(tmp_path: pathlib.Path, content: bytes, reason: str) -> None:
    error = file_refusal(bundle(tmp_path, content))
    assert (error.file, error.json_path) == (str(tmp_path / "config.json"), None)
    assert reason in error.reason


@pytest.mark.parametrize("value", ["true", '"x"', "[]"])
def test_deep_nesting_at_a_known_field(value: str) -> None:
    data = b'{"ociVersion": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(InvalidBundleError):
        load_spec(data, None)


# processes and resources on their own


def test_process_of_plain_objects() -> None:
    process = decode_process({"args": ["sh"], "cwd": "/"})
    assert process == Process(args=("sh",), cwd="/")
    assert process.user == User(uid=0, gid=0)


def test_process_in_every_form() -> None:
    form = full()["process"]
    expected = load(full()).process
    assert expected is not None
    assert decode_process(form) == expected
    assert decode_process(types.MappingProxyType({**form, "args": tuple(form["args"])})) == expected
    assert decode_process(json.dumps(form).encode()) == expected
    assert decode_process(expected) == expected


def test_process_with_enumerations_and_structs() -> None:
    limit = {"type": spec_package.RlimitType.CORE, "soft": 0, "hard": 0}
    process = decode_process({"args": ["sh"], "cwd": "/", "user": User(uid=7), "rlimits": [limit]})
    assert process.user.uid == 7 and process.rlimits[0].type is spec_package.RlimitType.CORE


def test_process_keeps_bytes_that_are_not_utf8() -> None:
    argument = os.fsdecode(b"\xff")
    assert decode_process({"args": [argument], "cwd": "/"}).args == (argument,)


def test_process_does_not_change_the_callers_object() -> None:
    form = {"args": ["sh"], "cwd": "/", "env": None, "apparmorProfile": ""}
    before = copy.deepcopy(form)
    decode_process(form)
    assert form == before


@pytest.mark.parametrize(("process", "place"), [
    ({}, "$.cwd"),
    ({"args": ["sh"]}, "$.cwd"),
    ({"args": ["sh"], "cwd": ""}, "$.cwd"),
    ({"args": ["sh"], "cwd": "tmp"}, "$.cwd"),
    ({"cwd": "/"}, "$.args"),
    ({"args": [], "cwd": "/"}, "$.args"),
    ({"args": None, "cwd": "/"}, "$.args"),
    ({"args": "sh", "cwd": "/"}, "$.args"),
    ({"args": ["sh", 3], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh", "a\0b"], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh", "\ud800"], "cwd": "/"}, "$.args[1]"),
    ({"args": ["sh"], "cwd": "/", "user": {"uid": -1}}, "$.user.uid"),
    ({"args": ["sh"], "cwd": "/", 3: 4}, '$["3"]'),
    (Process(args=["sh", 3], cwd="/"), "$.args[1]"),  # type: ignore[arg-type]
    (Process(args=("sh",), cwd=""), "$.cwd"),
    (Process(args=(), cwd="/"), "$.args"),
    (b'{"args": ["a\\u0000"], "cwd": "/"}', "$.args[0]"),
    (b"[]", "$"),
    (["sh"], "$"),
    (None, "$"),
    ("{}", "$"),
])
def test_refused_process(process: Any, place: str) -> None:
    with pytest.raises(InvalidBundleError) as caught:
        decode_process(process)
    assert (caught.value.file, caught.value.json_path) == (None, place)


def test_process_that_is_not_json() -> None:
    with pytest.raises(InvalidBundleError, match="line 1") as caught:
        decode_process(b"{")
    assert caught.value.json_path is None


def test_resources_on_their_own() -> None:
    expected = Resources(pids=Pids(limit=7))
    assert decode_resources({"pids": {"limit": 7}}) == expected
    assert decode_resources(b'{"pids": {"limit": 7}}') == expected
    assert decode_resources(expected) == expected
    with pytest.raises(InvalidBundleError) as caught:
        decode_resources({"cpu": {"quota": 1}})
    assert (caught.value.file, caught.value.json_path) == (None, "$.cpu.quota")


# the rest


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
    script = ("import sys, msgspec\nbefore = set(sys.modules)\nimport pyruntime.spec\n"
              "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('pyruntime')))")
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "subprocess", "dataclasses", "pyroute2", "json", "logging"} & set(loaded)
    # nor what only an error needs
    script = "import sys, pyruntime.spec; print('pyruntime.spec.explain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
