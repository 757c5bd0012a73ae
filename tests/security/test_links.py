"""Links, special files and swapped devices in the image."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from attacks import Attack
from links import LINKS, MOUNTINFO, assert_is_device, assert_refused, below, in_image, mounted, mounts_without, put_link

from pyruntime.errors import SetupError
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged


@pytest.fixture(params=["mounted_after", "mounted_before"], autouse=True)
def change_of_root(request: pytest.FixtureRequest, attack: Attack) -> None:
    """Where hooks are to see the mounts, these are made before the change of root, while the host can still be reached by name."""
    if request.param == "mounted_before":
        attack.changes["hooks"] = {"createContainer": [{"path": "/bin/true"}]}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "bind_file"])
@pytest.mark.parametrize("place", ["target", "parent"])
def test_link_at_a_mount_target(attack: Attack, link: str, kind: str, place: str) -> None:
    """The mount is where the link leads in the container's root, or nowhere."""
    lands = put_link(attack, "volume", link)
    source = attack.directory / "source"
    source.mkdir()
    (source / "file").write_text("shared")
    names = () if place == "target" else ("a", "b")
    destination = below("/volume", *names)
    mount = {"tmpfs": {"type": "tmpfs", "source": "attacked"},
             "bind": {"source": str(source), "options": ["bind"]},
             "bind_file": {"source": str(source / "file"), "options": ["bind"]}}[kind]
    outcome = attack.try_run(attack.bundle(MOUNTINFO, mounts=mounts_without(add=({"destination": destination, **mount},))))
    if lands is None:
        assert_refused(outcome, "attach mount", destination, "ELOOP", "$.mounts[7].destination")
    elif kind == "bind_file" and below(lands, *names) == "/":
        assert_refused(outcome, "attach mount", destination, "ENOTDIR", "$.mounts[7].destination")
    else:
        # the file system of a bind mount is the host's, and its path there begins at that one's own root
        ours = {"tmpfs": "attacked", "bind": "/source", "bind_file": "/source/file"}[kind]
        assert [point for point, _, source, root in mounted(outcome) if source == ours or root.endswith(ours)] == [below(lands, *names)]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("place", ["source", "parent"])
def test_link_at_a_source_in_the_root(attack: Attack, link: str, place: str) -> None:
    """What is bound is where the link leads in the container's root, or there is nothing."""
    lands = put_link(attack, "volume", link)
    source = attack.rootfs / "volume" if place == "source" else attack.rootfs / "volume" / "a"
    seen = below(lands, *(() if place == "source" else ("a",))) if lands is not None else None
    if seen is not None:
        in_image(attack, seen).mkdir(parents=True, exist_ok=True)
        (in_image(attack, seen) / "of-the-image").touch()
    bundle = attack.bundle(["/bin/ls", "/bound"], mounts=mounts_without(add=({"destination": "/bound", "source": str(source),
                                                                              "options": ["bind"]},)))
    outcome = attack.try_run(bundle)
    if seen is None:
        assert_refused(outcome, "copy tree", str(source).removeprefix(str(attack.rootfs)), "ELOOP", "$.mounts[7].source")
    else:
        assert isinstance(outcome, tuple) and outcome[0] == 0 and "of-the-image" in outcome[1].split()
        assert "canary" not in outcome[1]


@pytest.mark.parametrize("mounted_there", [True, False], ids=["mounted", "not_mounted"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_top_directory_is_a_link(attack: Attack, name: str, link: str, mounted_there: bool) -> None:
    """No link may stand where these are mounted; where they are not, what is protected below them is where the link leads."""
    lands = put_link(attack, name, link)
    mounts = [m["destination"] for m in default_config()["mounts"] if m["destination"].split("/")[1] == name]
    victim = {"proc": "keys", "sys": "firmware"}[name]
    if lands not in (None, "/"):
        in_image(attack, below(lands, victim)).mkdir(parents=True)
        (in_image(attack, below(lands, victim)) / "seen").touch()
    bundle = attack.bundle(["/bin/sh", "-c", f"ls -A /{name}/{victim}; echo end"], mounts=mounts_without(*() if mounted_there else mounts))
    outcome = attack.try_run(bundle)
    if mounted_there:
        index = [m["destination"] for m in default_config()["mounts"]].index(f"/{name}")
        assert_refused(outcome, "attach mount", f"/{name}", "ELOOP", f"$.mounts[{index}].destination")
    elif lands is None:
        field, path = ("readonlyPaths[0]", "/proc/bus") if name == "proc" else ("maskedPaths[8]", "/sys/firmware")
        assert_refused(outcome, "protect path" if name == "proc" else "mask path", path, "ELOOP", f"$.linux.{field}")
    else:
        assert outcome == (0, "end\n"), "the directory is masked, or there is none"


@pytest.mark.parametrize("mounted_there", [True, False], ids=["mounted", "not_mounted"])
@pytest.mark.parametrize("link", LINKS)
def test_dev_is_a_link(attack: Attack, link: str, mounted_there: bool) -> None:
    """Mounts and nodes follow it, in the image."""
    lands = put_link(attack, "dev", link)
    gone = () if mounted_there else ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    outcome = attack.try_run(attack.bundle(MOUNTINFO, mounts=mounts_without(*gone)))
    if lands is None and mounted_there:
        assert_refused(outcome, "attach mount", "/dev", "ELOOP", "$.mounts[1].destination")
    elif lands is None:
        assert_refused(outcome, "make node", "/dev/null", "ELOOP", None)
    elif mounted_there:
        found = [(point, kind) for point, kind, _, _ in mounted(outcome)]
        for name, kind in (("", "tmpfs"), ("pts", "devpts"), ("shm", "tmpfs"), ("mqueue", "mqueue")):
            assert (below(lands, name).rstrip("/") or "/", kind) in found
    else:
        mounted(outcome)
        for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
            assert_is_device(in_image(attack, below(lands, name)), stat.S_ISCHR, os.makedev(1, minor))
        assert os.readlink(in_image(attack, below(lands, "ptmx"))) == "pts/ptmx"


@pytest.mark.conformance(31, 32)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["null", "zero", "tty"])
def test_link_in_the_place_of_a_device(attack: Attack, name: str, link: str) -> None:
    """Without a mount at /dev, what is there is the image's: a device is looked for and not followed to."""
    put_link(attack, f"dev/{name}", link)
    outcome = attack.try_run(attack.bundle(["/bin/true"], mounts=mounts_without("/dev")))
    assert_refused(outcome, "make node", f"/dev/{name}", "EEXIST", None)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["fd", "stdin", "stdout", "stderr", "ptmx"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "no_terminal"])
def test_link_in_the_place_of_a_link(attack: Attack, name: str, link: str, terminal: bool) -> None:
    """The image's own choice stays, but for ptmx, which is replaced."""
    put_link(attack, f"dev/{name}", link)
    text = os.readlink(attack.rootfs / "dev" / name)
    outcome = attack.try_run(attack.bundle(["/bin/true"], mounts=mounts_without("/dev"), process={"terminal": terminal},
                                           root={"readonly": False}))
    assert outcome == (0, "")
    assert os.readlink(attack.rootfs / "dev" / name) == ("pts/ptmx" if name == "ptmx" else text)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "no_terminal"])
def test_link_in_the_place_of_the_console(attack: Attack, link: str, terminal: bool) -> None:
    """The terminal is bound to where it leads in the image; CVE-2026-88264."""
    lands = put_link(attack, "dev/console", link)
    outcome = attack.try_run(attack.bundle(MOUNTINFO, mounts=mounts_without("/dev"), process={"terminal": terminal},
                                           root={"readonly": False}))
    if not terminal:
        assert "/0" not in [root for *_, root in mounted(outcome)]
    elif lands is None or lands == "/":
        assert_refused(outcome, "open console", None, "EISDIR" if lands else "ELOOP", "$.process.terminal")
    else:
        assert [(point, kind) for point, kind, _, root in mounted(outcome) if root == "/0"] == [(lands, "devpts")]
        assert stat.S_ISREG(in_image(attack, lands).lstat().st_mode), "what it is bound to was made in the image"


def test_pts_0_link_does_not_redirect_the_console(attack: Attack) -> None:
    (attack.rootfs / "dev" / "pts").mkdir()
    attack.replace("dev/pts/0", "/proc/sys/kernel/core_pattern")
    bundle = attack.bundle(["/bin/stat", "-c", "%t", "/dev/console"], process={"terminal": True})
    code, text = attack.run(bundle)
    assert (code, text.strip()) == (0, "88"), "136 is the major number of pseudoterminals"


def test_ptmx_that_is_no_multiplexer(attack: Attack) -> None:
    (attack.rootfs / "dev" / "pts").mkdir()
    os.mkfifo(attack.rootfs / "dev" / "pts" / "ptmx")
    outcome = attack.try_run(attack.bundle(["true"], mounts=mounts_without("/dev", "/dev/pts"), process={"terminal": True}))
    assert isinstance(outcome, SetupError)
    assert (outcome.step, outcome.errno_name) == ("open console", "ENOTTY")


PROBE = "ls -A /secret/; cat /secret/file; stat -c %t:%T /secret/file; (echo x >/secret/new) 2>/dev/null && echo wrote; echo end"


@pytest.mark.conformance(53)
@pytest.mark.parametrize(("member", "path", "expected"), [
    ("maskedPaths", "/secret", ["end"]),
    ("maskedPaths", "/secret/file", ["file", "1:3", "wrote", "end"]),
    ("readonlyPaths", "/secret", ["file", "plain", "0:0", "end"]),
    ("readonlyPaths", "/secret/file", ["file", "plain", "0:0", "wrote", "end"]),
])
@pytest.mark.parametrize("exists", [True, False], ids=["exists", "absent"])
@pytest.mark.parametrize("link", LINKS)
def test_protected_path_below_a_link(attack: Attack, member: str, path: str, expected: list[str], link: str, exists: bool) -> None:
    """What the link leads to in the image is masked or read-only, also by its own name; what is absent stays so."""
    lands = put_link(attack, "secret", link)
    field = {"maskedPaths": [], "readonlyPaths": [], member: [path]}
    if lands is None:
        outcome = attack.try_run(attack.bundle(["/bin/true"], linux=field))
        assert_refused(outcome, "mask path" if member == "maskedPaths" else "protect path", path, "ELOOP", f"$.linux.{member}[0]")
        return
    if exists:
        in_image(attack, lands).mkdir(parents=True, exist_ok=True)
        in_image(attack, below(lands, "file")).write_text("plain\n")
    # two names of one thing; what is mounted at the root is seen by who comes from below it only
    names = ["/secret"] if lands == "/" else ["/secret", lands]
    for name in names:
        bundle = attack.bundle(["/bin/sh", "-c", PROBE.replace("/secret", name)], linux=field, root={"readonly": False})
        outcome = attack.try_run(bundle)
        assert not isinstance(outcome, SetupError), outcome
        code, text = outcome
        seen = text.split()
        if not exists:
            assert code == 0 and "1:3" not in seen
            assert in_image(attack, lands).exists() is (lands == "/")
            continue
        if lands == "/":  # which has more in it than the file
            seen = [word for word in seen if word not in os.listdir(attack.rootfs) or word == "file"]
        assert (code, seen) == (0, expected), name
        in_image(attack, below(lands, "new")).unlink(missing_ok=True)
    if exists:
        assert in_image(attack, below(lands, "file")).read_text() == "plain\n"


@pytest.mark.parametrize("link", LINKS)
def test_device_below_a_link(attack: Attack, link: str) -> None:
    """It is made where the link leads in the image."""
    lands = put_link(attack, "nodes", link)
    devices = [{"path": "/nodes/sub/disk", "type": "b", "major": 254, "minor": 0},
               {"path": "/nodes/fifo", "type": "p"}]
    outcome = attack.try_run(attack.bundle(["/bin/true"], linux={"devices": devices}))
    if lands is None:
        assert_refused(outcome, "make node", "/nodes/sub/disk", "ELOOP", "$.linux.devices[0]")
        return
    assert outcome == (0, "")
    assert_is_device(in_image(attack, below(lands, "sub", "disk")), stat.S_ISBLK, os.makedev(254, 0))
    assert_is_device(in_image(attack, below(lands, "fifo")), stat.S_ISFIFO, 0)


@pytest.mark.conformance(31)
def test_device_node_that_is_a_file(attack: Attack) -> None:
    (attack.rootfs / "dev" / "null").write_text("not a device")
    outcome = attack.try_run(attack.bundle(["/bin/true"], mounts=mounts_without("/dev")))
    assert isinstance(outcome, SetupError)
    assert (outcome.step, outcome.path, outcome.errno_name) == ("make node", "/dev/null", "EEXIST")


@pytest.mark.conformance(53)
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
    mounts = [m for m in mounts_without("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")] + list(extra)
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


@pytest.mark.parametrize("names", [(), ("new", "deep")], ids=["itself", "below"])
@pytest.mark.parametrize("link", LINKS)
def test_working_directory_is_a_link(attack: Attack, link: str, names: tuple[str, ...]) -> None:
    """It is the directory of the image that the link leads to, made if need be; the host's of that name is another inode."""
    lands = put_link(attack, "work", link)
    cwd = below("/work", *names)
    outcome = attack.try_run(attack.bundle(["/bin/stat", "-c", "%d:%i", "."], process={"cwd": cwd}))
    if lands is None:
        assert_refused(outcome, "change directory", cwd, "ELOOP", "$.process.cwd")
        return
    found = in_image(attack, below(lands, *names)).stat()
    assert outcome == (0, f"{found.st_dev}:{found.st_ino}\n")
    for path in (Path("/"), attack.canary):
        assert not os.path.samestat(found, path.stat())


@pytest.mark.parametrize("exists", [True, False], ids=["exists", "absent"])
@pytest.mark.parametrize("link", LINKS)
def test_passwd_is_a_link(attack: Attack, link: str, exists: bool) -> None:
    """The image's file that it leads to is read, not the host's of that name."""
    lands = put_link(attack, "etc/passwd", link, attack.canary / "file")
    home = "/"
    if exists and lands not in (None, "/"):
        home = "/in-image"
        in_image(attack, lands).parent.mkdir(parents=True)
        in_image(attack, lands).write_text("root:x:0:0:the image's:/in-image:/bin/sh\n")
    assert attack.try_run(attack.bundle(["/bin/sh", "-c", "echo $HOME"])) == (0, f"{home}\n")


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
