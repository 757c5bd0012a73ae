"""What a tmpfs takes over from the directory that it covers."""

from __future__ import annotations

import mmap
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime import StdioOptions
from pyruntime.errors import InvalidBundleError, SetupError

pytestmark = pytest.mark.conformance(9)
OLD = 1_000_000_000_123_456_789


def tmpfs(*options: str, to: str = "/data") -> dict[str, Any]:
    return {"destination": to, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def facts(path: Path) -> tuple[Any, ...]:
    """What a copy has in common with what it is a copy of."""
    status = path.lstat()
    content: object = None
    if path.is_symlink():
        content = os.readlink(path)
    elif path.is_file():
        content = path.read_bytes()
    attributes = {} if path.is_symlink() else {name: os.getxattr(path, name) for name in os.listxattr(path)}
    rdev = status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0
    links = status.st_nlink if not path.is_dir() else None
    return status.st_mode, status.st_uid, status.st_gid, rdev, status.st_mtime_ns, links, attributes, content


def tree(top: Path) -> dict[str, tuple[Any, ...]]:
    return {str(path.relative_to(top)): facts(path) for path in [*top.rglob("*")]}


@pytest.fixture
def data(lab: Lab) -> Path:
    """A directory of the image with everything that one can hold."""
    path = lab.rootfs / "data"
    (path / "deep" / "er").mkdir(parents=True)
    (path / "empty").mkdir()
    (path / "plain").write_text("text\n")
    (path / "large").write_bytes(os.urandom(300_001))
    (path / "nothing").touch()
    (path / "deep" / "er" / "setuid").write_text("x")
    os.chown(path / "deep" / "er" / "setuid", 12, 34)
    (path / "deep" / "er" / "setuid").chmod(0o4750)
    (path / "deep" / "second").hardlink_to(path / "plain")
    (path / "third").hardlink_to(path / "plain")
    (path / "pair").write_text("pair\n")
    (path / "empty" / "pair").hardlink_to(path / "pair")
    for name, target in (("relative", "plain"), ("absolute", "/etc/passwd"), ("dangling", "../../none")):
        (path / name).symlink_to(target)
    os.lchown(path / "dangling", 5, 6)
    os.mkfifo(path / "fifo", 0o640)
    os.mknod(path / "device", stat.S_IFCHR | 0o620, os.makedev(1, 5))
    os.setxattr(path / "plain", "trusted.kept", b"value\0more")
    os.setxattr(path / "deep", "trusted.kept", b"of a directory")
    # CAP_NET_BIND_SERVICE, as setcap(8) writes it
    os.setxattr(path / "large", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    with (path / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
        file.truncate((1 << 30) + 8192)
    (path / "deep").chmod(0o2770)
    path.chmod(0o1751)
    os.chown(path, 3, 4)
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, ns=(OLD, OLD), follow_symlinks=False)
    return path


def copied(lab: Lab, *options: str, **changes: Any) -> Path:
    """The copy, as this process sees it."""
    pid = lab.sleeper(mounts=with_mounts(tmpfs("tmpcopyup", *options)), **changes)
    return Path(f"/proc/{pid}/root/data")


def test_everything_is_copied(lab: Lab, data: Path) -> None:
    (data / "sparse").unlink()
    expected = tree(data)
    assert expected["plain"][5] == 3 and expected["deep"][6] == {"trusted.kept": b"of a directory"}
    before = tree(lab.rootfs)
    copy = copied(lab)
    assert tree(copy) == expected
    # the two links of one file are one, and no others
    inodes = {name: (copy / name).stat().st_ino for name in ("plain", "deep/second", "third", "pair", "empty/pair", "large")}
    assert len({*inodes.values()}) == 3 and inodes["plain"] == inodes["third"] == inodes["deep/second"]
    status = copy.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1751, 3, 4)
    # it is another one
    lab.exec("echo changed >/data/plain; rm -r /data/deep")
    assert (data / "plain").read_text() == "text\n" and tree(lab.rootfs) == before


def test_holes_stay_holes(lab: Lab, data: Path) -> None:
    copy = copied(lab, "size=2m") / "sparse"
    status = copy.stat()
    assert status.st_size == (1 << 30) + 8192 and status.st_blocks * 512 <= 64 << 10
    with copy.open("rb") as file:
        file.seek((1 << 30) - 1)
        assert file.read() == b"\0end" + bytes(8189)


def test_read_only_when_it_is_full(lab: Lab, data: Path) -> None:
    out = lab.run("cat /data/plain; (echo x >/data/new) 2>&1", mounts=with_mounts(tmpfs("ro", "tmpcopyup", "nodev")))
    assert out.startswith("text\n") and "Read-only file system" in out
    assert not (data / "new").exists()


@pytest.mark.parametrize("hooks", [{}, {"createContainer": [{"path": "/bin/true"}]}], ids=["after", "before"])
def test_on_either_side_of_the_change_of_root(lab: Lab, data: Path, hooks: dict[str, Any]) -> None:
    assert lab.run("cat /data/plain /data/deep/second", mounts=with_mounts(tmpfs("tmpcopyup")), hooks=hooks) == "text\ntext\n"


def test_what_is_stated_holds(lab: Lab, data: Path) -> None:
    status = copied(lab, "mode=700", "uid=7").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 7, 4)


def test_in_a_user_namespace(reachable: Lab, data: Path) -> None:
    """Owners that it maps are the same; a device cannot be made there, which is told."""
    linux = {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}
    subprocess.run(["chown", "-R", "100000:200000", str(reachable.rootfs)], check=True)
    os.chown(data / "plain", 100005, 200006)
    with pytest.raises(SetupError) as raised:
        copied(reachable, linux=linux)
    assert (raised.value.step, raised.value.errno_name, raised.value.path) == ("copy up", "EPERM", "/data")
    assert "copy device" in str(raised.value)
    (data / "device").unlink()
    copy = copied(reachable, linux=linux)
    assert ((copy / "plain").stat().st_uid, (copy / "plain").stat().st_gid) == (100005, 200006)
    assert (copy / "third").stat().st_ino == (copy / "plain").stat().st_ino


def test_mounts_below_are_no_part_of_it(lab: Lab, data: Path, volume: Path) -> None:
    """Their places are there, empty."""
    mounts = with_mounts(bind(volume, "bind", to="/data/empty"), bind(volume / "file", "bind", to="/data/nothing"), tmpfs("tmpcopyup"))
    out = lab.run("ls -A /data/empty; cat /data/nothing /data/plain; stat -c %F /data/empty /data/nothing", mounts=mounts)
    assert out.splitlines() == ["text", "directory", "regular empty file"]


@pytest.mark.parametrize("destination", ["/absent/deep", "/data/plain"])
def test_where_there_is_no_directory(lab: Lab, data: Path, destination: str) -> None:
    mounts = with_mounts(tmpfs("tmpcopyup", to=destination))
    if destination == "/absent/deep":
        assert lab.run("ls -A /absent/deep; stat -c %a /absent/deep", mounts=mounts) == "1777\n"
    else:
        with pytest.raises(SetupError) as raised:
            lab.create("true", mounts=mounts)
        assert (raised.value.step, raised.value.errno_name) == ("attach mount", "ENOTDIR")


def test_what_does_not_fit(lab: Lab, data: Path) -> None:
    with pytest.raises(SetupError) as raised:
        lab.create("true", mounts=with_mounts(tmpfs("tmpcopyup", "size=64k")))
    assert (raised.value.step, raised.value.errno_name, raised.value.json_path) == ("copy up", "ENOSPC", "$.mounts[7].options[0]")
    assert "copy large" in str(raised.value)


def test_directories_that_are_too_deep(lab: Lab, data: Path) -> None:
    directory = data
    for _ in range(150):
        directory = directory / "d"
        directory.mkdir()
    with pytest.raises(SetupError) as raised:
        lab.create("true", mounts=with_mounts(tmpfs("tmpcopyup")))
    assert (raised.value.step, raised.value.errno_name) == ("copy up", "ELOOP") and "too deep" in str(raised.value)


def test_another_type(lab: Lab) -> None:
    with pytest.raises(InvalidBundleError) as raised:
        lab.create("true", mounts=with_mounts({**tmpfs("tmpcopyup"), "type": "ramfs"}))
    assert raised.value.json_path == "$.mounts[7].options[0]"


@pytest.mark.parametrize(("mode", "options", "expected"), [(0o751, (), "751"), (0o1777, ("size=1m",), "1777"), (0o700, ("mode=750",), "750")])
def test_mode_of_a_tmpfs(lab: Lab, mode: int, options: tuple[str, ...], expected: str) -> None:
    """As with runc and crun it is that of the directory that it covers, whose owner and contents it has not."""
    (lab.rootfs / "data").mkdir()
    (lab.rootfs / "data" / "file").touch()
    (lab.rootfs / "data").chmod(mode)
    os.chown(lab.rootfs / "data", 3, 4)
    out = lab.run("stat -c '%a %u %g' /data; ls -A /data; grep ' /data ' /proc/self/mounts", mounts=with_mounts(tmpfs(*options)))
    status, line = out.splitlines()
    assert status == f"{expected} 0 0"
    shown = [option for option in line.split()[3].split(",") if option.startswith("mode=")]
    # the default of a tmpfs is not shown
    assert shown == ([f"mode={expected}"] if expected != "1777" else [])


# hostile images


@pytest.fixture
def canary(lab: Lab) -> Path:
    """Of the host."""
    path = lab.directory / "canary"
    path.mkdir()
    (path / "secret").write_text("of the host\n")
    return path


@pytest.mark.parametrize("kind", ["destination", "above", "relative"])
def test_links_lead_to_the_image_alone(lab: Lab, canary: Path, kind: str) -> None:
    if kind == "above":
        (lab.rootfs / "data").symlink_to(canary.parent)
        to = f"/data/{canary.name}"
    else:
        (lab.rootfs / "data").symlink_to(canary if kind == "destination" else f"{'../' * 40}{str(canary)[1:]}")
        to = "/data"
    out = lab.run(f"ls -A {to}/; grep -c ' {canary} ' /proc/self/mountinfo", mounts=with_mounts(tmpfs("tmpcopyup", to=to)))
    assert out == "1\n"
    assert [path.name for path in canary.iterdir()] == ["secret"]


def test_links_in_it_are_copied_as_links(lab: Lab, canary: Path) -> None:
    (lab.rootfs / "data").mkdir()
    for name, target in (("file", canary / "secret"), ("directory", canary)):
        (lab.rootfs / "data" / name).symlink_to(target)
    copy = copied(lab)
    assert {path.name: os.readlink(path) for path in copy.iterdir()} == {"file": str(canary / "secret"), "directory": str(canary)}


@pytest.fixture
def racer(lab: Lab, tmp_path: Path) -> Iterator[Callable[[Path, Path], mmap.mmap]]:
    """Swaps two names until the end, and counts how often."""
    source = ("#include <fcntl.h>\n#include <stdint.h>\n#include <sys/mman.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"
              "int main(int c, char **v) { volatile uint64_t *n = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open(v[3], O_RDWR), 0);"
              "for (; c;) if (!syscall(SYS_renameat2, AT_FDCWD, v[1], AT_FDCWD, v[2], 2)) ++*n; }\n")
    program = tmp_path / "racer"
    running: list[subprocess.Popen[bytes]] = []
    counts: list[mmap.mmap] = []
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-x", "c", "-o", str(program), "-"], input=source.encode(), check=True)

    def run(one: Path, other: Path) -> mmap.mmap:
        counter = tmp_path / f"count{len(running)}"
        counter.write_bytes(bytes(4096))
        running.append(subprocess.Popen([program, one, other, counter]))
        with counter.open("r+b") as file:
            count = mmap.mmap(file.fileno(), 4096)
        counts.append(count)
        deadline = time.monotonic() + 10
        while not int.from_bytes(count[:8], "little"):
            assert time.monotonic() < deadline
        return count

    yield run
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for count in counts:
        count.close()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_names_that_are_swapped_meanwhile(lab: Lab, canary: Path, racer: Callable[[Path, Path], mmap.mmap], kind: str) -> None:
    """A volume's other user swaps what is copied for links to the host, and for what would be waited for: nothing of the host is copied."""
    volume = lab.directory / "shared"
    (volume / "a").mkdir(parents=True)
    good, evil = volume / "a" / "good", volume / "a" / "evil"
    if kind == "directory":
        good.mkdir()
        (good / "secret").write_text("of the image\n")
        evil.symlink_to(canary)
    else:
        good.write_text("of the image\n")
        if kind == "fifo":
            os.mkfifo(evil)
        else:
            evil.symlink_to(canary / "secret")
    count = racer(good, evil)
    first, outcomes = int.from_bytes(count[:8], "little"), set()
    for _ in range(60):
        mounts = with_mounts(bind(volume, "bind", to="/data"), tmpfs("tmpcopyup", to="/data/a"))
        try:
            pid = lab.sleeper(mounts=mounts)
        except SetupError as error:
            assert error.step == "copy up" and error.errno_name in ("ELOOP", "ESTALE", "EINVAL", "ENOTDIR", "EXDEV", "EAGAIN"), error
            outcomes.add(error.errno_name)
            continue
        copy = Path(f"/proc/{pid}/root/data/a")
        files = [path for path in copy.rglob("*") if path.is_file() and not path.is_symlink()]
        assert {path.read_text() for path in files} <= {"of the image\n"}
        outcomes.add("copied")
        lab.runtime.delete_container("p1", force=True)
    assert int.from_bytes(count[:8], "little") > first + 60 and "copied" in outcomes
    assert (canary / "secret").read_text() == "of the host\n" and [path.name for path in canary.iterdir()] == ["secret"]


def test_a_name_that_the_copy_needs_itself(lab: Lab, data: Path) -> None:
    """It fails, and follows nothing there."""
    (data / ".pyruntime-links").symlink_to(lab.directory)
    with pytest.raises(SetupError) as raised:
        lab.create("true", stdio=StdioOptions(), mounts=with_mounts(tmpfs("tmpcopyup")))
    assert (raised.value.step, raised.value.errno_name) == ("copy up", "EEXIST")
