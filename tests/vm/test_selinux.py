"""Labels, where SELinux is in force: a virtual machine that was started with it, and a policy (selinux.cil) that is loaded here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, namespaces
from probing import Probe

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.host import read_host
from pyruntime.testing.bundles import default_config

SELINUX = Path("/sys/fs/selinux")
HOST, LABEL, OTHER = ("test_u:test_r:host_t:s0-s0:c1,c2", "test_u:test_r:container_t:s0:c1,c2", "test_u:test_r:container_t:s0:c1")
FILES, OF_HOST = "test_u:object_r:container_file_t:s0:c1,c2", "test_u:object_r:host_t:s0"


@pytest.fixture(scope="module", autouse=True)
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Loaded once: there is no way back."""
    if not (SELINUX / "load").exists():
        subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", str(SELINUX)], check=True)
    if not read_host().has_selinux:
        directory = tmp_path_factory.mktemp("policy")
        source = Path(__file__).with_name("selinux.cil")
        subprocess.run(["secilc", "-c", "31", "-M", "1", "-o", "policy", "-f", "contexts", source], cwd=directory, check=True)
        # in one piece
        descriptor = os.open(SELINUX / "load", os.O_WRONLY)
        try:
            data = (directory / "policy").read_bytes()
            assert os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)
    assert read_host().has_selinux and Path("/proc/self/attr/current").read_text().rstrip("\0") == HOST
    yield


@pytest.mark.conformance(19)
@pytest.mark.parametrize("process", [{}, {"noNewPrivileges": False}, {"user": {"uid": 1000, "gid": 1000}}], ids=["", "may gain", "user"])
def test_the_label_is_the_programs(lab: Lab, probe: Probe, process: dict[str, Any]) -> None:
    """And that of what is executed in the container without one of its own."""
    assert probe.run("label", process=process).text("label") == HOST
    labelled = {**process, "selinuxLabel": LABEL}
    keyring = "keyctl:17:-3:0:0"  # KEYCTL_GET_SECURITY: how long it is
    found = probe.run("label", f"syscall:{keyring}", process=labelled)
    assert (found.text("label"), found.call(keyring)) == (LABEL, len(LABEL) + 1)
    lab.sleeper(process=labelled)
    assert probe.exec("label", **process).text("label") == LABEL
    assert probe.exec("label", **process, selinuxLabel=OTHER).text("label") == OTHER


@pytest.mark.conformance(19)
@pytest.mark.parametrize("kinds", [("mount",), (*NAMESPACES, "user")], ids=["few", "all"])
def test_in_every_kind_of_namespace(reachable: Lab, probe: Probe, kinds: tuple[str, ...]) -> None:
    changes = {"hostname": "h" if "uts" in kinds else None, "mounts": default_config()["mounts"][:2],
               "linux": {"namespaces": namespaces(*kinds), **(MAPS if "user" in kinds else {})}}
    reachable.sleeper(process={"selinuxLabel": LABEL}, **changes)
    assert probe.exec("label").text("label") == LABEL
    reachable.runtime.delete_container("p1", force=True)
    assert probe.run("label", process={"selinuxLabel": LABEL}, **changes).text("label") == LABEL


@pytest.mark.conformance(19)
def test_a_label_that_is_none(lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", process={"selinuxLabel": "test_u:test_r:none_t:s0"})
    assert (raised.value.errno_name, raised.value.json_path) == ("EINVAL", "$.process.selinuxLabel")
    assert not lab.runtime.container_exists("p1")
    lab.sleeper()
    with pytest.raises(SetupError) as raised:
        lab.exec("true", selinuxLabel="test_u:test_r:container_t:s0:c3")
    assert (raised.value.errno_name, raised.value.json_path) == ("EINVAL", "$.selinuxLabel")


@pytest.mark.conformance(19)
def test_an_image_cannot_take_the_label(lab: Lab) -> None:
    """What it shows at /proc is not where the label is written to (CVE-2019-16884)."""
    attributes = lab.rootfs / "proc" / "self" / "attr"
    attributes.mkdir(parents=True)
    (attributes / "exec").write_text("")
    pid = lab.sleeper(mounts=[], process={"selinuxLabel": LABEL}, linux={"maskedPaths": [], "readonlyPaths": []}, root={"readonly": False})
    assert (attributes / "exec").read_text() == ""
    assert Path(f"/proc/{pid}/attr/current").read_text().rstrip("\0") == LABEL


def label_of(path: str) -> str:
    return os.getxattr(path, "security.selinux").decode().rstrip("\0")


@pytest.mark.conformance(54)
def test_file_systems_have_the_mount_label(lab: Lab, volume: Path) -> None:
    """Those that are made for the container, and what is made in them; not what is bound, or what the kernel shows."""
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
              {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
              {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
              {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
              {"destination": "/own", "type": "tmpfs", "source": "own", "options": [f"context={OF_HOST}"]},
              {"destination": "/tmp", "type": "bind", "source": str(volume), "options": ["bind"]}]
    pid = lab.create("echo >/dev/made; exec sleep 1000", stdio=StdioOptions(), mounts=mounts, root={"readonly": False},
                     linux={"mountLabel": FILES, "maskedPaths": ["/etc"], "readonlyPaths": []})
    lab.runtime.start_container("p1")
    lab.exec("until test -e /dev/made; do sleep 0.1; done")
    labels = {path: label_of(f"/proc/{pid}/root{path}") for path in (
        "/dev", "/dev/made", "/dev/null", "/dev/pts", "/dev/mqueue", "/etc", "/own", "/tmp", "/proc", "/sys")}
    assert labels == {"/dev": FILES, "/dev/made": FILES, "/dev/null": FILES, "/dev/pts": FILES, "/dev/mqueue": FILES, "/etc": FILES,
                      "/own": OF_HOST, "/tmp": OF_HOST, "/proc": OF_HOST, "/sys": OF_HOST}


@pytest.mark.conformance(54)
def test_a_mount_label_that_is_none(lab: Lab) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux={"mountLabel": "test_u:object_r:none_t:s0"})
    assert (raised.value.step, raised.value.errno_name) == ("new filesystem", "EINVAL")
    assert raised.value.json_path is not None and raised.value.json_path.startswith("$.mounts[")
    assert not lab.runtime.container_exists("p1")
