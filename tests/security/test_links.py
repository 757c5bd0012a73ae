"""Links, special files and swapped devices in the image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack

from pyruntime.errors import SetupError
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged

LINKS = {
    "absolute": lambda canary: str(canary),
    "dotdot": lambda canary: "../" * 40 + str(canary).lstrip("/"),
    "host_root": lambda canary: "/../../../..",
    "dangling": lambda canary: "/does/not/exist",
    "dangling_in_canary": lambda canary: f"{canary}/new",
    "loop": lambda canary: "looping",
    "magic": lambda canary: "/proc/1/root" + str(canary),
    "magic_cwd": lambda canary: "/proc/self/cwd/../../../..",
}


def _mounts(*without: str, add: tuple[dict[str, Any], ...] = ()) -> list[dict[str, Any]]:
    return [m for m in default_config()["mounts"] if m["destination"] not in without] + list(add)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "bind_file"])
@pytest.mark.parametrize("place", ["target", "parent"])
def test_link_at_a_mount_target(attack: Attack, link: str, kind: str, place: str) -> None:
    name = "volume"
    attack.replace(name, LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", name)
    source = attack.directory / "source"
    source.mkdir()
    (source / "file").write_text("shared")
    destination = f"/{name}" if place == "target" else f"/{name}/a/b"
    mount = {"tmpfs": {"type": "tmpfs", "source": "tmpfs"},
             "bind": {"source": str(source), "options": ["bind"]},
             "bind_file": {"source": str(source / "file"), "options": ["bind"]}}[kind]
    bundle = attack.bundle(["/bin/cat", "/proc/self/mountinfo"], mounts=_mounts(add=({"destination": destination, **mount},)))
    outcome = attack.try_run(bundle)
    if isinstance(outcome, SetupError):
        assert outcome.step == "attach mount"
        assert outcome.path == destination
        assert outcome.json_path == "$.mounts[7].destination"
    else:
        assert outcome[0] == 0


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "not_mounted"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_top_directory_is_a_link(attack: Attack, name: str, link: str, mounted: bool) -> None:
    attack.replace(name, LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", name)
    below = [m["destination"] for m in default_config()["mounts"] if m["destination"].split("/")[1] == name]
    bundle = attack.bundle(["/bin/true"], mounts=_mounts(*() if mounted else below))
    outcome = attack.try_run(bundle)
    if mounted and name in ("proc", "sys"):
        assert isinstance(outcome, SetupError), "no link may stand where these are mounted"
        assert outcome.step == "attach mount"


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["null", "console", "pts", "ptmx", "zero", "fd", "stdin", "shm"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "no_terminal"])
def test_link_in_dev(attack: Attack, name: str, link: str, terminal: bool) -> None:
    """Without a mount at /dev: what is there is the image's."""
    attack.replace(f"dev/{name}", LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", f"dev/{name}")
    bundle = attack.bundle(["/bin/true"], mounts=_mounts("/dev"), process={"terminal": terminal})
    attack.try_run(bundle)


def test_console_link_to_a_host_file(attack: Attack) -> None:
    attack.replace("dev/console", attack.canary / "console")
    bundle = attack.bundle(["/bin/tty"], mounts=_mounts("/dev"), process={"terminal": True})
    attack.try_run(bundle)
    assert not (attack.canary / "console").exists()


def test_pts_0_link_does_not_redirect_the_console(attack: Attack) -> None:
    (attack.rootfs / "dev" / "pts").mkdir()
    attack.replace("dev/pts/0", "/proc/sys/kernel/core_pattern")
    bundle = attack.bundle(["/bin/stat", "-c", "%t", "/dev/console"], process={"terminal": True})
    code, text = attack.run(bundle)
    assert (code, text.strip()) == (0, "88"), "136 is the major number of pseudoterminals"


def test_ptmx_that_is_no_multiplexer(attack: Attack) -> None:
    (attack.rootfs / "dev" / "pts").mkdir()
    os.mkfifo(attack.rootfs / "dev" / "pts" / "ptmx")
    outcome = attack.try_run(attack.bundle(["true"], mounts=_mounts("/dev", "/dev/pts"), process={"terminal": True}))
    assert isinstance(outcome, SetupError)
    assert (outcome.step, outcome.errno_name) == ("open console", "ENOTTY")


@pytest.mark.parametrize("member", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("link", LINKS)
def test_protected_path_below_a_link(attack: Attack, member: str, link: str) -> None:
    attack.replace("secret", LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", "secret")
    bundle = attack.bundle(["/bin/true"], linux={member: ["/secret", "/secret/file", "/secret/core_pattern"]})
    attack.try_run(bundle)


@pytest.mark.parametrize("link", LINKS)
def test_device_below_a_link(attack: Attack, link: str) -> None:
    attack.replace("nodes", LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", "nodes")
    devices = [{"path": "/nodes/sub/disk", "type": "b", "major": 254, "minor": 0},
               {"path": "/nodes/fifo", "type": "p"}]
    attack.try_run(attack.bundle(["/bin/true"], linux={"devices": devices}))


def test_device_node_that_is_a_file(attack: Attack) -> None:
    (attack.rootfs / "dev" / "null").write_text("not a device")
    outcome = attack.try_run(attack.bundle(["/bin/true"], mounts=_mounts("/dev")))
    assert isinstance(outcome, SetupError)
    assert (outcome.step, outcome.path, outcome.errno_name) == ("make node", "/dev/null", "EEXIST")


@pytest.mark.parametrize("target", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "file"])
def test_mask_is_the_null_device_though_dev_null_is_swapped(attack: Attack, target: str) -> None:
    """CVE-2025-31133: /dev is a volume whose null is a link; CVE-2026-88265: or a bind-mounted host file."""
    volume = attack.directory / "volume"
    volume.mkdir()
    if target == "file":
        (volume / "null").write_text("")
        extra = ({"destination": "/dev", "source": str(volume), "options": ["bind"]},
                 {"destination": "/dev/null", "source": str(attack.canary / "null"), "options": ["bind"]})
    else:
        (volume / "null").symlink_to(target)
        extra = ({"destination": "/dev", "source": str(volume), "options": ["bind"]},)
    mounts = [m for m in _mounts("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")] + list(extra)
    bundle = attack.bundle(["/bin/sh", "-c", "stat -c %t:%T /proc/timer_list; stat -c %t:%T /proc/keys"], mounts=mounts)
    outcome = attack.try_run(bundle)
    assert not isinstance(outcome, SetupError)
    assert outcome[1].split()[:2] == ["1:3", "1:3"]
    assert (attack.canary / "null").stat().st_uid == 0


def test_stdio_file_keeps_its_owner(attack: Attack) -> None:
    """CVE-2026-88265: descriptors are not chosen, and not owned, by what the image has at /dev/null."""
    attack.replace("dev/null", attack.canary / "file")
    bundle = attack.bundle(["/bin/sh", "-c", "readlink /proc/self/fd/0; readlink /proc/self/fd/2"],
                           process={"user": {"uid": 1000, "gid": 1000}})
    _, text = attack.run(bundle)
    assert "canary" not in text
    assert (attack.canary / "file").stat().st_uid == 0


def test_proc_is_a_fifo(attack: Attack) -> None:
    (attack.rootfs / "proc").rmdir()
    os.mkfifo(attack.rootfs / "proc")
    outcome = attack.try_run(attack.bundle(["/bin/true"]))
    assert isinstance(outcome, SetupError)
    assert (outcome.step, outcome.path, outcome.errno_name) == ("attach mount", "/proc", "ENOTDIR")


@pytest.mark.parametrize("link", LINKS)
def test_working_directory_is_a_link(attack: Attack, link: str) -> None:
    attack.replace("work", LINKS[link](attack.canary))
    if link == "loop":
        attack.replace("looping", "work")
    for cwd in ("/work", "/work/new/deep"):
        outcome = attack.try_run(attack.bundle(["/bin/sh", "-c", "pwd; ls /"], process={"cwd": cwd}))
        if not isinstance(outcome, SetupError):
            assert "canary" not in outcome[1].split()[1:]


@pytest.mark.parametrize("link", LINKS)
def test_passwd_is_a_link(attack: Attack, link: str) -> None:
    attack.replace("etc/passwd", LINKS[link](attack.canary / "file"))
    if link == "loop":
        attack.replace("looping", "etc/passwd")
    (attack.canary.parent / "unused").touch()
    code, text = attack.run(attack.bundle(["/bin/sh", "-c", "echo $HOME"]))
    assert (code, text.strip()) == (0, "/")


@pytest.mark.parametrize("content", ["fifo", "huge_line", "sparse", "directory", "kmsg", "numeric_name"])
def test_hostile_passwd(attack: Attack, content: str) -> None:
    path: Path = attack.rootfs / "etc" / "passwd"
    path.unlink()
    if content == "fifo":
        os.mkfifo(path)
    elif content == "huge_line":
        path.write_bytes(b"x" * 3_000_000 + b"\n")
    elif content == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 42)
    elif content == "directory":
        path.mkdir()
    elif content == "kmsg":
        path.symlink_to("/proc/kmsg")
    else:
        path.write_text("1000:x:0:0:root:/named:/bin/sh\n1001:x:1000:0:x:/numbered:/bin/sh\n")
    bundle = attack.bundle(["/bin/env"], process={"user": {"uid": 1000, "gid": 0}})
    code, text = attack.run(bundle)
    # busybox's id and sh would read the file themselves
    home = [line for line in text.splitlines() if line.startswith("HOME=")]
    assert (code, home) == (0, ["HOME=/numbered" if content == "numeric_name" else "HOME=/"])


def test_home_is_looked_up_in_the_root_whatever_cwd(attack: Attack) -> None:
    (attack.rootfs / "tmp" / "etc").mkdir()
    (attack.rootfs / "tmp" / "etc" / "passwd").write_text("root:x:0:0:root:/wrong:/bin/sh\n")
    (attack.rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/right:/bin/sh\n")
    _, text = attack.run(attack.bundle(["/bin/sh", "-c", "echo $HOME"], process={"cwd": "/tmp"}))
    assert text.strip() == "/right"
