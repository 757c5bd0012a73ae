"""Callers whose root is no mount, and containers in the caller's own mount namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime import NativeRuntime
from pyruntime.errors import InvalidBundleError, SetupError
from pyruntime.testing.snapshot import HostSnapshot

# In a mount namespace of its own, a directory that is no mount, with the host's files mounted in it, becomes the root.
CHROOT = """
import ctypes, os, sys
from pyruntime import NativeRuntime, StdioOptions, errors
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, flags):
    if libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) < 0:
        raise OSError(ctypes.get_errno(), target)
root, state, bundle, no_pivot = *sys.argv[1:4], sys.argv[4] == "True"
if libc.unshare(CLONE_NEWNS) < 0:
    raise OSError(ctypes.get_errno(), "unshare")
mount("none", "/", MS_REC | MS_PRIVATE)
os.mkdir(root)
for entry in os.scandir("/"):
    target = f"{root}/{entry.name}"
    if entry.is_symlink():
        os.symlink(os.readlink(entry), target)
    elif entry.is_dir():
        os.mkdir(target)
        mount(entry.path, target, MS_BIND | MS_REC)
open(f"{root}/in-the-chroot", "x").close()
os.chroot(root)
os.chdir("/")
runtime = NativeRuntime(state)
stdio = StdioOptions(create_out=True)
pid = runtime.create_container("p1", bundle, stdio, no_pivot=no_pivot)
runtime.start_container("p1")
print(runtime.get_stdio_pipes("p1", pid).out.read().decode(), end="")
print("exit", runtime.wait_on_container("p1").exit_code)
runtime.delete_container("p1")
print("left", os.path.exists("/in-the-chroot"), *[line.split()[4] for line in open("/proc/self/mountinfo") if "rootfs" in line.split()[4]])
"""


def run_in_chroot(lab: Lab, bundle: str, no_pivot: bool = False) -> list[str]:
    command = [sys.executable, "-c", CHROOT, str(lab.directory / "chroot"), str(lab.directory / "inner"), bundle, str(no_pivot)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.conformance(2)
@pytest.mark.parametrize("no_pivot", [False, True])
@pytest.mark.parametrize("hooks", [False, True])
def test_root_that_is_no_mount(lab: Lab, volume: Path, no_pivot: bool, hooks: bool) -> None:
    """Nothing is above the container's root, and paths of the configuration are those of the chroot."""
    layers = {name: lab.directory / name for name in ("lower", "upper", "work")}
    for path in layers.values():
        path.mkdir()
    (layers["lower"] / "file").write_text("of a layer\n")
    overlay = {"destination": "/layers", "type": "overlay", "source": "overlay",
               "options": [f"{name}dir={path}" for name, path in layers.items()]}
    program = lab.directory / "hook"
    program.write_text("#!/bin/sh\ntest -e /in-the-chroot\n")
    program.chmod(0o755)
    changes: dict[str, Any] = {"hooks": {kind: [{"path": str(program)}] for kind in ("createRuntime", "createContainer")}} if hooks else {}
    script = "cat /tmp/file /layers/file; ls / /../.. /proc/1/root/.. | grep -c in-the-chroot; cut -d' ' -f5 /proc/self/mountinfo"
    out = run_in_chroot(lab, lab.bundle(script, mounts=with_mounts(bind(volume, "bind"), overlay), **changes), no_pivot)
    assert out[:3] == ["text", "of a layer", "0"]
    end = out.index("exit 0")
    mounts = out[3:end]
    # of the host there is nothing: all that is mounted is below the root
    assert mounts.count("/") == 1 or no_pivot
    assert {"/proc", "/dev", "/sys", "/tmp", "/layers"} <= {*mounts} and not any("chroot" in path for path in mounts)
    assert out[end + 1:] == ["left True"]


def test_what_is_above_a_chroot_is_out_of_reach(lab: Lab) -> None:
    """chroot(2) leads above the root, as far as the mount namespace goes: where that is the container's root alone, to itself."""
    source = ("#include <dirent.h>\n#include <stdio.h>\n#include <sys/stat.h>\n#include <unistd.h>\n"
              "int main(void) { mkdir(\"/tmp/x\", 0755); if (chroot(\"/tmp/x\")) return 1;"
              "for (int i = 0; i < 100; i++) if (chdir(\"..\")) return 2;"
              "if (chroot(\".\")) return 3; DIR *d = opendir(\"/\"); for (struct dirent *e; (e = readdir(d));) puts(e->d_name); return 0; }\n")
    subprocess.run(["gcc", "-static", "-x", "c", "-o", str(lab.rootfs / "bin" / "escape"), "-"], input=source.encode(), check=True)
    held = {"capabilities": {kind: ["CAP_SYS_CHROOT"] for kind in ("bounding", "permitted", "effective")}}
    out = run_in_chroot(lab, lab.bundle(["/bin/escape"], process=held, root={"readonly": False}))
    assert sorted(out[:-2]) == sorted([".", "..", *(path.name for path in lab.rootfs.iterdir())])
    assert out[-2:] == ["exit 0", "left True"]


# without a mount namespace


OWN = {"namespaces": namespaces(*(name for name in NAMESPACES if name != "mount")), "maskedPaths": [], "readonlyPaths": []}


def mounts_of(pid: int | str) -> list[str]:
    return [line.split(" ", 2)[2] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


@pytest.mark.conformance(27)
@pytest.mark.parametrize("hooks", [{}, {"createContainer": [{"path": "/bin/true"}]}], ids=["plain", "hooks"])
def test_in_the_callers_mount_namespace(lab: Lab, volume: Path, hooks: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """What it mounts is below its root, and goes with it; its processes see the root as theirs."""
    before = mounts_of("self")
    pid = lab.sleeper(linux=OWN, mounts=with_mounts(bind(volume, "rbind", "ro")), hooks=hooks)
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    assert "no mount namespace" in caplog.text
    inside = [line for line in mounts_of("self") if line not in before]
    assert len(inside) > 6 and all(f" {lab.rootfs}" in line for line in inside)
    assert not any("shared:" in line for line in inside if f" {lab.rootfs} " in line)
    out = lab.exec("pwd; ls /; cat /tmp/file /tmp/sub/inner; (echo x >/tmp/new) 2>/dev/null || echo refused; "
                   "echo $$ >/dev/null && stat -c %t /dev/null")
    assert out.split() == ["/", *sorted(path.name for path in lab.rootfs.iterdir()), "text", "inner", "refused", "1"]
    # another object, as another process has it
    NativeRuntime(str(lab.root)).delete_container("p1", force=True)
    assert mounts_of("self") == before


@pytest.mark.conformance(27)
def test_a_failure_in_the_callers_mount_namespace_leaves_nothing(lab: Lab) -> None:
    before = HostSnapshot.take(lab.root)
    with pytest.raises(SetupError) as raised:
        lab.create("true", linux=OWN, process={"cwd": "/etc/passwd"})
    assert raised.value.step == "change directory"
    assert [line for line in HostSnapshot.take(lab.root).differences(before) if " cgroups: " not in line] == []


@pytest.mark.conformance(27, 53)
@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_masks_need_a_mount_namespace(lab: Lab, name: str) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", linux={**OWN, name: ["/proc/kcore"]})
    assert raised.value.json_path == f"$.linux.{name}"
