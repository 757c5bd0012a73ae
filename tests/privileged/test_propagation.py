"""What is mounted on the host and is seen in a container, and the other way round; roots that cannot be pivoted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, bind, capabilities, with_mounts

from pyruntime.testing.bundles import make_rootfs

MOUNTS = {"process": capabilities("CAP_SYS_ADMIN")}


def mount_on_host(path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "late", str(path)], check=True)
    (path / "arrived").touch()


def arrives(lab: Lab, path: str) -> bool:
    return lab.exec(f"ls {path}").strip() == "arrived"


def leaves(lab: Lab, path: str, on_host: Path) -> bool:
    """Whether what the container mounts is on the host then."""
    assert lab.exec(f"mount -t tmpfs back {path} && touch {path}/left && ls {path}", **capabilities("CAP_SYS_ADMIN")) == "left\n"
    return (on_host / "left").exists()


# of a mount and of the mounts below it: whether the host's arrive, whether the container's leave. With a root that is not shared
# a shared mount is a slave of the host's as well: config-linux.md, "a new peer group".
PROPAGATIONS = [
    (None, "rslave", (True, False), (True, False)),
    ("private", "rslave", (False, False), (True, False)),
    ("rprivate", "rslave", (False, False), (False, False)),
    ("slave", "rslave", (True, False), (True, False)),
    ("rslave", "rslave", (True, False), (True, False)),
    ("shared", "rslave", (True, False), (True, False)),
    ("shared", "rshared", (True, True), (True, True)),
    ("rshared", "rshared", (True, True), (True, True)),
    ("slave", "rshared", (True, False), (True, True)),
    ("rslave", "rshared", (True, False), (True, False)),
    ("private", "rshared", (False, False), (True, True)),
    ("private", "private", (False, False), (False, False)),
    ("unbindable", "rslave", (False, False), (True, False)),
]


@pytest.mark.conformance(5)
@pytest.mark.parametrize(("option", "root", "itself", "below"), PROPAGATIONS)
@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_mount(lab: Lab, volume: Path, kind: str, option: str | None, root: str, itself: tuple[bool, bool],
               below: tuple[bool, bool]) -> None:
    for name in ("late", "back"):
        (volume / "sub" / name).mkdir()
    options = [kind] if option is None else [kind, option]
    lab.sleeper(mounts=with_mounts(bind(volume, *options)), linux={"rootfsPropagation": root}, **MOUNTS)
    mount_on_host(volume / "late")
    assert (arrives(lab, "/tmp/late"), leaves(lab, "/tmp/back", volume / "back")) == itself
    if kind == "rbind":
        mount_on_host(volume / "sub" / "late")
        assert (arrives(lab, "/tmp/sub/late"), leaves(lab, "/tmp/sub/back", volume / "sub" / "back")) == below
    else:
        assert lab.exec("ls -A /tmp/sub") == "", "what is mounted below is not part of it"


@pytest.fixture
def shared_rootfs(lab: Lab) -> Iterator[Path]:
    """On a mount that is shared on the host."""
    path = lab.directory / "shared"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", str(path)], check=True)
    subprocess.run(["mount", "--make-shared", str(path)], check=True)
    rootfs = make_rootfs(path / "rootfs")
    (rootfs / "bin" / "unshare").symlink_to("busybox")
    for name in ("late", "back", "nested", "bound"):
        (rootfs / name).mkdir()
    yield rootfs
    lab.delete_all()
    subprocess.run(["umount", "-R", str(path)], check=True)


# the host's arrive, the container's leave, those of a mount namespace below arrive, it can be bound; config-linux.md, "Rootfs
# Mount Propagation"
ROOTS = {
    None: (True, False, False, True),
    "slave": (True, False, False, True),
    "shared": (False, False, True, True),
    "private": (False, False, False, True),
    "unbindable": (False, False, False, False),
    "rslave": (True, False, False, True),
    "rshared": (False, False, True, True),
    "rprivate": (False, False, False, True),
    "runbindable": (False, False, False, False),
}


@pytest.mark.conformance(52)
@pytest.mark.parametrize("propagation", ROOTS, ids=str)
def test_root(lab: Lab, shared_rootfs: Path, propagation: str | None) -> None:
    linux: dict[str, Any] = {} if propagation is None else {"rootfsPropagation": propagation}
    lab.sleeper(root={"path": str(shared_rootfs), "readonly": False}, linux=linux, **MOUNTS)
    mount_on_host(shared_rootfs / "late")
    found = [arrives(lab, "/late"), leaves(lab, "/back", shared_rootfs / "back")]
    # shared with whom it was shared before: what was private, or a slave, gets a peer group of its own
    nested = "mount -t tmpfs nested /nested && touch /nested/inside && ls /nested"
    assert lab.exec(["/bin/unshare", "-m", "--propagation", "shared", "/bin/sh", "-c", nested],
                    **capabilities("CAP_SYS_ADMIN")) == "inside\n"
    found.append(lab.exec("ls /nested") == "inside\n")
    said = lab.exec("mount -o bind /etc /bound 2>&1 && ls /bound | head -1", **capabilities("CAP_SYS_ADMIN"))
    assert said == "not-executable\n" or "Invalid argument" in said
    found.append(said == "not-executable\n")
    assert tuple(found) == ROOTS[propagation]


# the kind of propagation of the root and of what is mounted in it on the host, of mountinfo(5)
KINDS: dict[str | None, tuple[set[str], set[str]]] = {
    None: ({"master"}, {"master"}), "slave": ({"master"}, {"master"}), "rslave": ({"master"}, {"master"}),
    "shared": ({"shared"}, {"master"}), "rshared": ({"shared"}, {"shared", "master"}),
    "private": (set(), set()), "rprivate": (set(), set()),
    "unbindable": ({"unbindable"}, {"master"}), "runbindable": ({"unbindable"}, {"unbindable"}),
}


def peers(line: str) -> dict[str, str]:
    """The kinds of propagation of a line of mountinfo, with the numbers of peer groups."""
    fields = line.split()
    return {kind: number for kind, _, number in (field.partition(":") for field in fields[6:fields.index("-")])}


@pytest.mark.conformance(52)
@pytest.mark.parametrize("changes", [{}, {"hooks": {"createContainer": [{"path": "/bin/true"}]}}], ids=["", "hook"])
@pytest.mark.parametrize("propagation", KINDS, ids=str)
def test_peer_groups_of_the_root(lab: Lab, shared_rootfs: Path, propagation: str | None, changes: dict[str, Any]) -> None:
    """What is shared is so in a group that the host has no part in."""
    mount_on_host(shared_rootfs / "late")
    linux: dict[str, Any] = {} if propagation is None else {"rootfsPropagation": propagation}
    mountinfo = lab.run("cat /proc/self/mountinfo", root={"path": str(shared_rootfs), "readonly": False}, linux=linux, **changes)
    found = {line.split()[4]: peers(line) for line in mountinfo.splitlines()}
    on_host = {peers(line).get("shared") for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    for path, kinds in zip(("/", "/late"), KINDS[propagation], strict=True):
        assert set(found[path]) - {"propagate_from"} == kinds, path
        assert found[path].get("shared") not in on_host - {None}, path
        assert "master" not in kinds or found[path]["master"] in on_host, path


# Below the root file system of a mount namespace there is the kernel's rootfs, which no other mount is the parent of: the root that an
# initramfs runs in. Detaching what is above it, and joining the namespace again, lays it bare; the host's files are at /mnt then.
ROOTFS = """
import ctypes, os, sys
from pyruntime import NativeRuntime, StdioOptions, errors
CLONE_NEWNS, OPEN_TREE_CLONE, AT_RECURSIVE, MNT_DETACH, MOVE_MOUNT_F_EMPTY_PATH = 0x20000, 1, 0x8000, 2, 4
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    result = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), function.__name__)
    return result
# what is needed of the host's files has to be read before
sys.path.append(sys.argv[3])
import imports
imports.import_all()
runtime, bundle = NativeRuntime("/mnt" + sys.argv[1]), "/mnt" + sys.argv[2]
call(libc.unshare, CLONE_NEWNS)
call(libc.mount, None, b"/", None, 1 << 18 | 1 << 14, None)
namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
trees = {at: call(libc.syscall, 428, -1, path, OPEN_TREE_CLONE | AT_RECURSIVE)
         for at, path in (("/mnt", b"/"), ("/proc", b"/proc"), ("/sys", b"/sys"), ("/dev", b"/dev"))}
call(libc.umount2, b"/", MNT_DETACH)
call(libc.setns, namespace, CLONE_NEWNS)
made = [at for at in trees if not os.path.isdir(at)]
for at in made:
    os.mkdir(at)
for at, tree in trees.items():
    call(libc.syscall, 429, tree, b"", -1, at.encode(), MOVE_MOUNT_F_EMPTY_PATH)
try:
    runtime.create_container("p1", bundle, StdioOptions())
except errors.SetupError as error:
    print(error.step, error.errno_name, runtime.container_exists("p1"))
stdio = StdioOptions(create_in=True, create_out=True)
pid = runtime.create_container("p1", bundle, stdio, no_pivot=True)
runtime.start_container("p1")
pipes = runtime.get_stdio_pipes("p1", pid)
other = runtime.exec_process("p1", {"args": ["/bin/ls", "/", "/../.."], "cwd": "/"}, stdio)
print(runtime.get_stdio_pipes("p1", other).out.read().decode().split(), runtime.wait_on_process("p1", other).exit_code)
pipes.in_.close()
print(pipes.out.read().decode().split(), runtime.wait_on_container("p1").exit_code)
runtime.delete_container("p1")
for at in made:
    call(libc.umount2, at.encode(), MNT_DETACH)
    os.rmdir(at)
"""


@pytest.mark.conformance(2)
def test_root_that_cannot_be_pivoted(lab: Lab) -> None:
    """It is covered by the new one where that is asked for, and else pivot_root(2) fails."""
    bundle = lab.bundle("ls / /../..; read line", root={"path": f"/mnt{lab.rootfs}"})
    arguments = [str(lab.root), bundle, str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", ROOTFS, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, *ran = done.stdout.splitlines()
    assert refused == "pivot root EINVAL False"
    names = sorted(path.name for path in lab.rootfs.iterdir())
    assert ran == [f"{['/:', *names, '/../..:', *names]} 0", f"{['/:', *names, '/../..:', *names]} 1"], "of exec, and of the first process"
