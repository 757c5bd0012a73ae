"""Mounts of cgroups: what they show, and who may write to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, capabilities, cgroup_file, is_unified, namespaces

from pyruntime import StdioOptions
from pyruntime.testing.bundles import default_config

WITHOUT = tuple(name for name in NAMESPACES if name != "cgroup")


def cgroups(*options: str, type: str = "cgroup") -> list[Any]:
    """The default mounts, and cgroups with these options."""
    mounts = [mount for mount in default_config()["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
    return [*mounts, {"destination": "/sys/fs/cgroup", "type": type, "source": "cgroup", "options": list(options)}]


def directory(type: str = "cgroup") -> str:
    """A cgroup of the container's, as it is seen there."""
    return "/sys/fs/cgroup" if is_unified() or type == "cgroup2" else "/sys/fs/cgroup/pids"


# a cgroup is made and removed
WRITES = "mkdir {0}/inner 2>/dev/null && echo made && rmdir {0}/inner"


@pytest.mark.conformance(26)
@pytest.mark.parametrize(("options", "kinds", "expected"), [
    ((), NAMESPACES, True), (("rw", "nosuid"), NAMESPACES, True), (("ro",), NAMESPACES, False), (("rro",), NAMESPACES, False),
    (("rw",), WITHOUT, True), (("ro",), WITHOUT, False), ((), (*WITHOUT, "user"), False), (("rw",), (*WITHOUT, "user"), False),
    (("rrw",), (*WITHOUT, "user"), False),
], ids=str)
def test_writing(reachable: Lab, options: tuple[str, ...], kinds: tuple[str, ...], expected: bool) -> None:
    """CVE-2023-25809: where the container's root may be the user to whom the cgroups above belong, only in a new cgroup namespace."""
    lab = reachable
    changes = {"mounts": cgroups(*options), "linux": {"namespaces": namespaces(*kinds), **(MAPS if "user" in kinds else {})}}
    assert lab.run(WRITES.format(directory()), **changes).split() == (["made"] if expected else [])
    assert lab.run(f"(echo $$ >{directory()}/cgroup.procs) 2>&1 | grep -c Read-only", **changes).strip() == str(int(not expected))


@pytest.mark.conformance(26)
@pytest.mark.parametrize("kinds", [NAMESPACES, WITHOUT], ids=["new", "none"])
def test_they_are_the_containers_own(lab: Lab, kinds: tuple[str, ...]) -> None:
    """Whether there is a cgroup namespace or not, none of the host's is seen."""
    limits = {"pids": {"limit": 77}}
    out = lab.run(f"cat {directory()}/pids.max; cat {directory()}/cgroup.procs | wc -l; ls {directory()}/pyruntime 2>&1 | grep -c No",
                  mounts=cgroups("ro"), linux={"namespaces": namespaces(*kinds), "resources": limits})
    assert out.split() in (["77", "2", "1"], ["77", "3", "1"])


@pytest.mark.conformance(26)
def test_a_cgroup_namespace_that_is_joined_is_shared(reachable: Lab) -> None:
    lab = reachable
    first = lab.sleeper("p2", linux={"namespaces": namespaces(*NAMESPACES, "user"), **MAPS})
    joined = {name: f"/proc/{first}/ns/{name}" for name in ("cgroup", "user")}
    out = lab.run(WRITES.format(directory()), mounts=cgroups("rw"), linux={"namespaces": namespaces(*WITHOUT, **joined)})
    assert out == ""


@pytest.mark.conformance(26)
def test_v2_beside_v1(lab: Lab) -> None:
    """By its own type it is the v2 cgroup, whatever else the host has."""
    for kinds in (NAMESPACES, WITHOUT):
        out = lab.run("mkdir /sys/fs/cgroup/inner 2>/dev/null && echo made && rmdir /sys/fs/cgroup/inner",
                      mounts=cgroups(type="cgroup2"), linux={"namespaces": namespaces(*kinds)})
        assert out.strip() == "made"


@pytest.mark.conformance(26)
@pytest.mark.parametrize("kinds", [NAMESPACES, WITHOUT], ids=["new", "none"])
def test_in_a_user_namespace(reachable: Lab, kinds: tuple[str, ...]) -> None:
    linux = {"namespaces": namespaces(*kinds, "user"), **MAPS}
    shown = reachable.run(f"cat {directory()}/cgroup.procs | wc -l; {WRITES.format(directory())}", mounts=cgroups("rw"), linux=linux)
    # whose files they are is another matter (config-linux.md, "Cgroup ownership")
    assert int(shown.split()[0]) >= 1 and (kinds is NAMESPACES or shown.split()[1:] == [])


@pytest.mark.conformance(26)
def test_of_the_hosts_sys_only_the_containers_cgroups_are_seen(reachable: Lab) -> None:
    """As rootless configurations have it: /sys is the host's, and what is mounted at its cgroups covers those."""
    mounts = [mount for mount in default_config()["mounts"] if not mount["destination"].startswith("/sys")]
    mounts += [bind(Path("/sys"), "rbind", "nosuid", "noexec", "nodev", "ro", to="/sys"),
               {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["rw"]}]
    out = reachable.run(f"cat {directory()}/cgroup.procs | wc -l; {WRITES.format(directory())}", mounts=mounts,
                        linux={"namespaces": namespaces(*WITHOUT, "user"), **MAPS})
    assert out.split() in (["2"], ["3"])


NESTED = """
import os, sys
from pyruntime import NativeRuntime, StdioOptions
if os.path.exists("/sys/fs/cgroup/cgroup.procs"):  # a v2 cgroup that passes controllers on has no processes of its own
    os.mkdir("/sys/fs/cgroup/own")
    open("/sys/fs/cgroup/own/cgroup.procs", "w").write("0")
runtime = NativeRuntime(sys.argv[1])
pid = runtime.create_container("p2", sys.argv[2], StdioOptions(create_out=True))
runtime.start_container("p2")
print(runtime.get_stdio_pipes("p2", pid).out.read().decode(), end="")
print(runtime.wait_on_container("p2").exit_code)
runtime.delete_container("p2")
"""
NEEDED = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "SYS_ADMIN",
          "MKNOD", "AUDIT_WRITE", "NET_BIND_SERVICE")


@pytest.mark.conformance(26)
def test_nested(lab: Lab) -> None:
    """A container that runs containers, whose cgroups are below its own."""
    bundle = lab.bundle(f"cat {directory()}/pids.max; cat {directory()}/cgroup.procs | wc -l", mounts=cgroups("ro"),
                        linux={"resources": {"pids": {"limit": 55}}})
    command = [sys.executable, "-c", NESTED, str(lab.directory / "inner"), bundle]
    # the host's files, its programs included, with file systems and cgroups of the container's
    root, mounts = lab.directory / "root", cgroups("rw")
    root.mkdir()
    for entry in os.scandir("/"):
        if entry.is_symlink():
            (root / entry.name).symlink_to(os.readlink(entry.path))
        elif entry.is_dir() and entry.name not in ("proc", "sys", "dev"):
            mounts.append(bind(Path(entry.path), "rbind", to=entry.path))
    pid = lab.create(command, root={"path": str(root), "readonly": False}, mounts=mounts, stdio=StdioOptions(create_out=True, create_err=True),
                     linux={"resources": {"devices": [{"allow": True, "access": "rwm"}]}, "maskedPaths": [], "readonlyPaths": []},
                     process={**capabilities(*(f"CAP_{name}" for name in NEEDED)), "env": ["PATH=/usr/bin:/bin"], "cwd": os.getcwd()})
    lab.runtime.start_container("p1")
    errors = lab.runtime.get_stdio_pipes("p1", pid).err
    assert errors is not None
    out = lab.read("p1", pid).split()
    assert errors.read().decode().splitlines()[-1:] == []
    assert out in (["55", "2", "0"], ["55", "3", "0"])
    assert lab.runtime.wait_on_container("p1").exit_code == 0


@pytest.mark.conformance(26)
def test_limits_that_are_written_inside(lab: Lab) -> None:
    """On v1 they are the container's to change. On v2 those of a namespace's root are not (nsdelegate), and those below it are."""
    lab.sleeper(mounts=cgroups("rw"), linux={"resources": {"pids": {"limit": 200}}})
    lab.exec(f"mkdir {directory()}/inner; echo 123 >{directory()}/pids.max; echo 45 >{directory()}/inner/cgroup.max.descendants; "
             f"echo 45 >{directory()}/inner/pids.max")
    assert cgroup_file("pids", "pids.max", "pids.max").read_text() == ("200\n" if is_unified() else "123\n")
    assert cgroup_file("pids", "inner/pids.max", "inner/cgroup.max.descendants").read_text() == "45\n"
