"""Mounts, devices, masks and the terminal, as the container sees them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lab import Lab, bind, with_mounts

from pyruntime import StdioOptions
from pyruntime.handles import Container
from pyruntime.testing.bundles import default_config

WRITES = "(echo x >/tmp/new) 2>/dev/null && echo top; (echo x >/tmp/sub/new) 2>/dev/null && echo sub; ls /tmp/sub"


@pytest.mark.conformance(3)
@pytest.mark.parametrize(("options", "expected"), [
    (("bind",), ["top", "sub", "new"]),
    (("rbind",), ["top", "sub", "inner", "new"]),
    (("rbind", "ro"), ["sub", "inner", "new"]),
    (("rbind", "rro"), ["inner"]),
    (("bind", "ro"), []),
])
def test_bind(lab: Lab, volume: Path, options: tuple[str, ...], expected: list[str]) -> None:
    assert lab.run(WRITES, mounts=with_mounts(bind(volume, *options))).split() == expected


@pytest.mark.conformance(3)
def test_file_bind(lab: Lab, volume: Path) -> None:
    mounts = with_mounts(bind(volume / "file", "bind", "ro", to="/etc/passwd"))
    assert lab.run("cat /etc/passwd; (echo x >/etc/passwd) 2>/dev/null || echo refused", mounts=mounts).split() == [
        "text", "refused"]


def test_more_binds_than_one_message_carries(lab: Lab) -> None:
    source = lab.directory / "source"
    source.mkdir()
    count = 520
    mounts = [bind(source, "bind", to=f"/tmp/many/{i}") for i in range(count)]
    tmpfs = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    out = lab.run("ls /tmp/many | wc -l; grep -c ' /tmp/many/' /proc/self/mountinfo", mounts=with_mounts(tmpfs, *mounts))
    assert out.split() == [str(count), str(count)]


@pytest.mark.conformance(10)
def test_tmpfs_options(lab: Lab) -> None:
    mount = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "noexec", "nodev", "size=128k", "mode=1750", "uid=7", "gid=8"]}
    out = lab.run("stat -c '%a %u %g' /tmp; grep ' /tmp ' /proc/mounts; "
                  "dd if=/dev/zero of=/tmp/f bs=1k count=200 2>/dev/null || echo full", mounts=with_mounts(mount))
    lines = out.splitlines()
    assert lines[0] == "1750 7 8" and lines[2] == "full"
    assert {"nosuid", "nodev", "noexec", "size=128k", "mode=1750", "uid=7", "gid=8"} <= set(lines[1].split()[3].split(","))


@pytest.mark.conformance(53)
def test_masked_and_readonly_paths(lab: Lab) -> None:
    secret = lab.rootfs / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret\n")
    (lab.rootfs / "plain").write_text("secret\n")
    (lab.rootfs / "aim").mkdir()
    (lab.rootfs / "link").symlink_to("/aim")
    out = lab.run("ls -A /secret; cat /plain; (echo x >/secret/new) 2>/dev/null || echo dir; "
                  "(echo x >/aim/new) 2>/dev/null || echo aim; (echo x >/tmp/new) 2>/dev/null && echo root; "
                  "(echo 1 >/proc/sys/kernel/msgmax) 2>/dev/null || echo sys",
                  root={"readonly": False},
                  linux={"maskedPaths": ["/secret", "/plain", "/absent"],
                         "readonlyPaths": ["/link", "/proc/sys", "/absent"]})
    assert out.split() == ["dir", "aim", "root", "sys"]
    assert (secret / "file").read_text() == "secret\n" and not (lab.rootfs / "aim" / "new").exists()


@pytest.mark.conformance(53)
def test_a_path_in_several_spellings_is_mounted_on_once(lab: Lab) -> None:
    for name in ("secret", "aim"):
        (lab.rootfs / name).mkdir()
    (lab.rootfs / "plain").touch()
    out = lab.run("cut -d ' ' -f 5 /proc/self/mountinfo", linux={"maskedPaths": ["/secret", "//plain/", "/secret/.", "/plain"],
                                                              "readonlyPaths": ["/aim", "/aim/", "/./aim"]}).split()
    assert [out.count(path) for path in ("/secret", "/plain", "/aim")] == [1, 1, 1]


@pytest.mark.conformance(2)
@pytest.mark.parametrize("readonly", [True, False])
def test_root(lab: Lab, readonly: bool) -> None:
    out = lab.run("(echo x >/tmp/new) 2>&1 && echo written", root={"readonly": readonly})
    assert (lab.rootfs / "tmp" / "new").exists() is not readonly
    assert ("Read-only" in out) is readonly


@pytest.mark.conformance(2)
@pytest.mark.parametrize("no_pivot", [True, False])
def test_root_change(lab: Lab, no_pivot: bool) -> None:
    lab.runtime.create_container("p1", lab.bundle("ls /; ls / | wc -l; ls /../../"), StdioOptions(create_out=True),
                                 no_pivot=no_pivot)
    lab.runtime.start_container("p1")
    out = lab.read("p1", lab.runtime.get_init_pid("p1")).split()
    names = sorted(path.name for path in lab.rootfs.iterdir())
    assert out == [*names, str(len(names)), *names]


@pytest.mark.conformance(32)
def test_default_devices_and_links(lab: Lab) -> None:
    out = lab.run("cd /dev; stat -c '%n %t %T %a %F' full null random tty urandom zero; "
                  "for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done")
    devices = {line.split()[0]: line.split()[1:4] for line in out.splitlines()[:6]}
    assert devices == {"full": ["1", "7", "666"], "null": ["1", "3", "666"], "random": ["1", "8", "666"],
                       "tty": ["5", "0", "666"], "urandom": ["1", "9", "666"], "zero": ["1", "5", "666"]}
    assert all("character special" in line for line in out.splitlines()[:6])
    assert out.splitlines()[6:] == ["fd /proc/self/fd", "stdin /proc/self/fd/0", "stdout /proc/self/fd/1",
                                    "stderr /proc/self/fd/2", "ptmx pts/ptmx"]


@pytest.mark.conformance(31)
def test_extra_devices(lab: Lab) -> None:
    devices = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 3, "gid": 4},
               {"path": "/dev/deep/fifo", "type": "p", "fileMode": 0o600}]
    out = lab.run("stat -c '%t %T %a %u %g' /dev/extra; stat -c '%F %a' /dev/deep/fifo; head -c3 /dev/extra | wc -c",
                  linux={"devices": devices, "resources": {"devices": [
                      {"allow": False, "access": "rwm"},
                      {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"}]}})
    assert out.splitlines() == ["1 5 644 3 4", "fifo 600", "3"]


@pytest.mark.conformance(11)
def test_terminal(lab: Lab) -> None:
    script = ("tty; stty size; stat -c '%t %T' /dev/console; test -t 0 && test -t 1 && test -t 2 && echo three; "
              "echo here >/dev/tty; cut -d' ' -f6 /proc/self/stat; read line; stty size; echo got $line")
    pid = lab.create(script, process={"terminal": True, "consoleSize": {"height": 30, "width": 90}})
    lab.runtime.start_container("p1")
    pipes = lab.runtime.get_stdio_pipes("p1", pid)
    assert pipes.in_ is not None and pipes.out is not None and pipes.err is None
    seen = b""
    while seen.count(b"\n") < 6:
        seen += os.read(pipes.out.fileno(), 4096)
    lines = seen.decode().split("\r\n")
    assert lines[0] == "/dev/pts/0" or lines[0] == "/dev/console"
    assert lines[1] == "30 90" and lines[3:6] == ["three", "here", "1"]
    assert re.fullmatch(r"88 0", lines[2])  # 136:0, of the container's own devpts
    Container(lab.runtime, "p1").resize_console(100, 40)
    os.write(pipes.in_.fileno(), b"word\n")
    rest = lab.read("p1", pid).split("\r\n")
    assert rest[1:3] == ["40 100", "got word"]
    assert lab.runtime.wait_on_container("p1").exit_code == 0


@pytest.mark.conformance(11)
def test_terminal_without_a_mount_at_dev(lab: Lab) -> None:
    """What /dev/console is bound to is made before the root becomes read-only."""
    mounts = [mount for mount in default_config()["mounts"] if mount["destination"] != "/dev"]
    out = lab.run("stat -c '%t' /dev/console; (echo x >/new) 2>/dev/null || echo read-only", mounts=mounts, process={"terminal": True})
    assert out.split("\r\n") == ["88", "read-only", ""]


@pytest.mark.conformance(11)
def test_exec_with_terminal(lab: Lab) -> None:
    lab.sleeper()
    out = lab.exec("stty size; echo here >/dev/tty; test -t 2 && echo is", terminal=True,
                   consoleSize={"height": 12, "width": 34})
    assert out.split("\r\n") == ["12 34", "here", "is", ""]


def test_overlay_of_directories_of_the_host(lab: Lab) -> None:
    """What podman makes of `--volume DIRECTORY:/data:O`. The layers are named by paths of the host."""
    layers = {name: lab.directory / name for name in ("lower", "upper", "work")}
    for path in layers.values():
        path.mkdir()
    (layers["lower"] / "file").write_text("text\n")
    options = [f"{name}dir={path}" for name, path in layers.items()]
    mounts = with_mounts({"destination": "/data", "type": "overlay", "source": "overlay", "options": options})
    assert lab.run("cat /data/file; echo changed >/data/file; cat /data/file", mounts=mounts) == "text\nchanged\n"
    assert (layers["lower"] / "file").read_text() == "text\n" and (layers["upper"] / "file").read_text() == "changed\n"
