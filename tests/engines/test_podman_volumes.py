"""Options of podman's volumes, as what is mounted and what can be done with it shows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine
from podman import RUNTIMES, remove, with_runtime

pytestmark = pytest.mark.privileged


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a mount with peers, with a file, and a program that is its owner's."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("text\n")
    (tmp_path / "program").write_text("#!/bin/sh\nid -u\n")
    (tmp_path / "program").chmod(0o4755)
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    subprocess.run(["mount", "--make-shared", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-R", tmp_path], check=True)


def mount_of(text: str, point: str) -> tuple[set[str], str]:
    """Attributes and propagation of a mount, of /proc/self/mountinfo."""
    (fields,) = [line.split() for line in text.splitlines() if line.split()[4] == point]
    return set(fields[5].split(",")), " ".join(field.split(":")[0] for field in fields[6:fields.index("-")])


@pytest.mark.parametrize(("options", "attributes", "propagation"), [
    ("rw", {"rw"}, ""), ("ro", {"ro"}, ""), ("z", {"rw"}, ""), ("Z,ro", {"ro"}, ""),
    ("nosuid,nodev,noexec", {"rw", "nosuid", "nodev", "noexec"}, ""), ("suid,dev,exec", {"rw"}, ""),
    ("rprivate", {"rw"}, ""), ("rshared", {"rw"}, "shared"), ("rslave", {"rw"}, "master"), ("ro,shared", {"ro"}, "shared")])
def test_options(engine: Engine, shared: Path, options: str, attributes: set[str], propagation: str) -> None:
    script = "cat /proc/self/mountinfo; echo; cat /volume/file; /volume/program; echo $?; echo new >/volume/new; echo $?"
    ended = engine.run("--rm", "-v", f"{shared}:/volume:{options}", "box", "sh", "-c", script)
    mounts, _, seen = ended.out.partition("\n\n")
    found, how = mount_of(mounts, "/volume")
    assert found - {"relatime"} == attributes and how == propagation, ended
    program = ["126"] if "noexec" in attributes else ["0", "0"]
    assert seen.split() == ["text", *program, "1" if "ro" in attributes else "0"], ended
    assert (shared / "new").exists() == ("rw" in attributes)


def test_propagation(engine: Engine, shared: Path) -> None:
    """What is mounted later is seen on the other side, or is not, from either."""
    seen = {}
    for kind in ("rprivate", "rslave", "rshared"):
        below, within = shared / f"{kind}-host", shared / f"{kind}-container"
        below.mkdir()
        within.mkdir()
        id = engine.succeed("run", "-d", *engine.run_options, "--cap-add=sys_admin", "--security-opt=apparmor=unconfined",
                            "-v", f"{shared}:/volume:{kind}", "box", "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "mark", below], check=True)
        (below / "mark").touch()
        engine.succeed("exec", id, "mount", "-t", "tmpfs", "mark", f"/volume/{within.name}")
        engine.succeed("exec", id, "sh", "-c", f"echo >/volume/{within.name}/mark")
        seen[kind] = engine("exec", id, "ls", f"/volume/{below.name}/mark").code == 0, (within / "mark").exists()
        remove(engine, id)
    assert seen == {"rprivate": (False, False), "rslave": (True, False), "rshared": (True, True)}


def test_owners(engine: Engine, shared: Path) -> None:
    """U makes the files the container's user's, also through its mapping."""
    script = "stat -c %u:%g /volume/file; echo more >>/volume/file; echo $?"
    assert engine.run("--rm", "-u", "1000:100", "-v", f"{shared}:/volume", "box", "sh", "-c", script).out.split() == ["0:0", "1"]
    ended = engine.run("--rm", "-u", "1000:100", "-v", f"{shared}:/volume:U", "box", "sh", "-c", script)
    assert ended.out.split() == ["1000:100", "0"], ended
    ended = engine.run("--rm", "--uidmap=0:100000:2000", "--gidmap=0:200000:2000", "-v", f"{shared}:/volume:U", "box", "sh", "-c", script)
    assert ended.out.split() == ["0:0", "0"], ended
    assert ((shared / "file").stat().st_uid, (shared / "file").stat().st_gid) == (100000, 200000)


def test_read_only_on_what_podman_binds_into(engine: Engine, shared: Path) -> None:
    """It binds its own hosts, hostname and resolv.conf below /etc, for which the volume has no place."""
    script = "hostname; cat /etc/hostname; echo; cat /etc/file; touch /etc/new; echo $?"
    ended = engine.run("--rm", "-v", f"{shared}:/etc:ro", "box", "sh", "-c", script)
    name, *others = ended.out.split()
    assert others == [name, "text", "1"], ended
    assert {"file", "hostname", "hosts", "program"} <= set(os.listdir(shared)), "places, as crun makes them"


def test_an_overlay(engine: Engine, shared: Path) -> None:
    """O: the container writes, and the host's files stay."""
    ended = engine.run("--rm", "-v", f"{shared}:/volume:O", "box", "sh", "-c",
                       "echo changed >/volume/file; echo >/volume/new; cat /volume/file; ls /volume")
    assert (ended.code, ended.out.split()) == (0, ["changed", "file", "new", "program"]), ended
    assert (shared / "file").read_text() == "text\n" and sorted(os.listdir(shared)) == ["file", "program"]


def test_named_volumes(engine: Engine) -> None:
    """A new one has what the image has there, unless it is told not to; it stays for the next container, and is bound like another."""
    for option, expected in (("copy", ["not-executable", "passwd"]), ("nocopy,noexec", [])):
        ended = engine.run("--rm", "-v", f"named:/etc:{option}", "box", "sh", "-c", "ls /etc; touch /etc/new; grep ' /etc ' /proc/mounts")
        *names, mount = ended.out.splitlines()
        assert sorted(set(names) - {"hosts", "hostname", "resolv.conf", "mtab", "localtime"}) == expected, ended
        assert ("noexec" in mount.split()[3].split(",")) == ("noexec" in option)
        again = engine.run("--rm", "-v", "named:/again:exec,ro", "box", "ls", "/again")
        assert "new" in again.out.split(), again
        engine.succeed("volume", "rm", "named")
