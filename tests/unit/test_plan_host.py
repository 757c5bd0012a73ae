"""What a good document is refused for where a container is made of it: another platform, and what would be set in the host's namespaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spec_examples import Place, case_id, full, json_path, load, of_other_platforms, put, small

from pyruntime import MockRuntime, StdioOptions
from pyruntime.errors import InvalidBundleError, UnsupportedFieldError
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.compile import Place as Directories
from pyruntime.plan.compile import compile
from pyruntime.plan.operations import ExecuteProgram
from pyruntime.plan.restore import Sources, compile_restore
from pyruntime.spec import decode_process

V2 = Host((6, 1), (Hierarchy("/cg", True),), 0)
DIRECTORIES = Directories("c", "/b", "/b/rootfs", "/run/c")
SOURCES = Sources(frozenset(), frozenset(), frozenset())
CRIU = ExecuteProgram("", (b"/sbin/criu", b"swrk", b"3"), ())


def without_namespace(*names: str) -> dict[str, Any]:
    config = small()
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] not in names]
    return config


def planned(config: dict[str, Any]) -> None:
    """By a new container and by one that is restored."""
    spec = load(config)
    compile(spec, V2, DIRECTORIES)
    compile_restore(spec, V2, DIRECTORIES, SOURCES, CRIU, 4, False)


def refusal(config: dict[str, Any]) -> InvalidBundleError:
    """Of what the loader accepts: the same by all that a container is made of it."""
    spec = load(config)
    with pytest.raises(InvalidBundleError) as caught:
        compile(spec, V2, DIRECTORIES)
    with pytest.raises(type(caught.value)) as restoring:
        compile_restore(spec, V2, DIRECTORIES, SOURCES, CRIU, 4, False)
    assert str(restoring.value) == str(caught.value)
    return caught.value


OF_OTHER_PLATFORMS: list[tuple[Place, object]] = [
    *(((platform,), section) for platform, section in of_other_platforms().items()),
    (("freebsd",), {}), (("solaris",), {}), (("zos",), {}),
    (("process", "commandLine"), "cmd /c dir"), (("process", "user", "username"), "ContainerUser"),
]


@pytest.mark.parametrize(("place", "value"), OF_OTHER_PLATFORMS, ids=case_id)
def test_fields_of_other_platforms(place: Place, value: object) -> None:
    error = refusal(put(small(), place, value))
    assert isinstance(error, UnsupportedFieldError) and error.json_path == json_path(place)
    assert "for another platform" in error.reason


@pytest.mark.parametrize("place", ["commandLine", "user.username"])
def test_a_further_process_has_no_fields_of_other_platforms(place: str) -> None:
    process = put({"args": ["sh"], "cwd": "/"}, tuple(place.split(".")), "x")
    with pytest.raises(UnsupportedFieldError) as caught:
        decode_process(process)
    assert caught.value.json_path == f"$.{place}"


def test_a_runtime_without_plans_refuses_the_same(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    file = tmp_path / "config.json"
    for config in ({**small(), "zos": {}}, put(without_namespace("network"), ("linux", "netDevices"), {"eth0": {}})):
        file.write_text(json.dumps(config))
        error = refusal(config)
        with pytest.raises(type(error)) as caught:
            MockRuntime().create_container("c", str(tmp_path), StdioOptions())
        assert (caught.value.file, caught.value.json_path, caught.value.reason) == (str(file), error.json_path, error.reason)


@pytest.mark.conformance(23)
@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_names_need_a_uts_namespace(field: str) -> None:
    config = without_namespace("uts")
    del config["hostname"]
    planned(config)
    config[field] = "name"
    assert refusal(config).json_path == f"$.{field}"
    config["linux"]["namespaces"].append({"type": "uts", "path": "/proc/7/ns/uts"})
    planned(config)


@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_protected_paths_need_a_mount_namespace(field: str) -> None:
    config = without_namespace("mount")
    config["linux"].update(maskedPaths=[], readonlyPaths=[])
    planned(config)
    config["linux"][field] = ["/proc/kcore"]
    assert refusal(config).json_path == f"$.linux.{field}"


def test_a_user_namespace_needs_a_mount_namespace() -> None:
    config = without_namespace("mount")
    config["linux"]["namespaces"].append({"type": "user", "path": "/proc/7/ns/user"})
    error = refusal(config)
    assert isinstance(error, UnsupportedFieldError) and error.json_path == "$.linux.namespaces"


@pytest.mark.conformance(33)
def test_net_devices_need_a_network_namespace() -> None:
    config = put(without_namespace("network"), ("linux", "netDevices"), {"eth0": {}})
    assert refusal(config).json_path == "$.linux.netDevices"
    config["linux"]["namespaces"].append({"type": "network", "path": "/run/netns/a"})
    planned(config)


@pytest.mark.conformance(49)
@pytest.mark.parametrize(("key", "needed"), [
    *((f"kernel.{name}", "ipc") for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni",
                                             "shm_rmid_forced")),
    ("fs.mqueue.msg_max", "ipc"),
    ("fs/mqueue/msg_max", "ipc"),
    ("kernel/sem", "ipc"),
    ("net.ipv4.ip_forward", "network"),
    ("net/ipv4/conf/eth0.1/rp_filter", "network"),
    ("net.ipv4.conf.eth0/1.rp_filter", "network"),
    ("kernel.domainname", "uts"),
    ("kernel/domainname", "uts"),
])
def test_namespaced_sysctl(key: str, needed: str) -> None:
    planned(put(small(), ("linux", "sysctl"), {key: "1"}))
    config = without_namespace(needed)
    config.pop("hostname")
    config["linux"]["sysctl"] = {key: "1"}
    error = refusal(config)
    assert error.json_path == f'$.linux.sysctl["{key}"]' and f"type '{needed}'" in error.reason
    config["linux"]["namespaces"].append({"type": needed, "path": "/proc/7/ns/x"})
    planned(config)


@pytest.mark.conformance(49)
def test_sysctl_of_the_user_namespace() -> None:
    config = put(small(), ("linux", "sysctl"), {"user.max_net_namespaces": "1"})
    assert refusal(config).json_path == '$.linux.sysctl["user.max_net_namespaces"]'
    namespaces = ("namespaces", "uidMappings", "gidMappings")
    config["linux"].update({name: full()["linux"][name] for name in namespaces})
    config["process"]["user"] = {"uid": 0, "gid": 0}
    planned(config)
