"""Checkpoints that are not made and not restored, whatever criu is installed: what is said, and that nothing has changed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lab import MAPS, NAMESPACES, Lab, namespaces

from pyruntime import Status, StdioOptions
from pyruntime.checkpoint import CheckpointOptions, criu
from pyruntime.checkpoint.manifest import FILE, Manifest, SavedStream
from pyruntime.checkpoint.mounts import SavedMount
from pyruntime.checkpoint.options import CgroupsMode
from pyruntime.errors import (
    CheckpointError,
    ContainerExistsError,
    ContainerNotFoundError,
    InvalidBundleError,
    NotRunningError,
    SetupError,
    UnsupportedFieldError,
    UnsupportedHostError,
)
from pyruntime.plan import flags
from pyruntime.testing.snapshot import HostSnapshot

pytestmark = pytest.mark.privileged
BITS = sum(flags.NAMESPACES[name] for name in ("pid", "mount", "ipc", "uts", "network", "cgroup"))
NO_STREAM = SavedStream()


@pytest.fixture
def image(lab: Lab) -> Path:
    return lab.directory / "image"


@pytest.fixture
def programs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where criu is looked for; there is none."""
    directory = lab.directory / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(criu, "_SYSTEM_PATH", str(directory))
    return directory


def put(programs: Path, script: str) -> None:
    """A criu that is a shell script, with its socket as 3."""
    program = programs / "criu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def running(lab: Lab, image: Path) -> Iterator[int]:
    """A running container p1; it is running afterwards, too, and nothing is left of a checkpoint but its log."""
    pid = lab.sleeper()
    before = HostSnapshot.take(lab.root)
    yield pid
    assert lab.runtime.get_container_state("p1").status is Status.RUNNING
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []
    assert not image.exists() or [path.name for path in image.iterdir()] in ([], ["dump.log"])


def write_manifest(image: Path, **changes: Any) -> None:
    fields: dict[str, Any] = {"mounts": (SavedMount("/", "/", "tmpfs", (), "0:1"),), "streams": (NO_STREAM, NO_STREAM, NO_STREAM),
                              "has_terminal": False, "namespaces": {}, "namespace_bits": BITS, "cgroups_mode": CgroupsMode.IGNORE}
    image.mkdir(exist_ok=True)
    (image / FILE).write_bytes(msgspec.json.encode(Manifest(**{**fields, **changes})))


def refuse_restore(lab: Lab, image: Path, error: type[Exception], match: str, stdio: StdioOptions = StdioOptions(),
                   **changes: Any) -> Exception:
    """Nothing is left."""
    bundle = lab.bundle("true", **changes)
    before = HostSnapshot.take(lab.root, image)
    with pytest.raises(error, match=match) as caught:
        lab.runtime.restore_container("p1", bundle, str(image), stdio)
    assert HostSnapshot.take(lab.root, image).differences(before, ["p1"]) == []
    assert not lab.runtime.container_exists("p1")
    return caught.value


# checkpoints


def test_of_what_does_not_run(lab: Lab, image: Path) -> None:
    with pytest.raises(ContainerNotFoundError):
        lab.runtime.checkpoint_container("p1", str(image))
    lab.create("true")
    with pytest.raises(NotRunningError, match="it is created"):
        lab.runtime.checkpoint_container("p1", str(image))
    lab.runtime.start_container("p1")
    lab.runtime.wait_on_container("p1")
    with pytest.raises(NotRunningError, match="it is stopped"):
        lab.runtime.checkpoint_container("p1", str(image))
    assert not image.exists()


def test_without_criu(lab: Lab, image: Path, programs: Path, running: int) -> None:
    with pytest.raises(UnsupportedHostError, match=f"not found in .*{programs}.*install the package criu"):
        lab.runtime.checkpoint_container("p1", str(image))


@pytest.mark.parametrize(("script", "said"), [
    ("echo cannot open shared object file >&2; exit 127", "cannot open shared object file"), ("exit 1", "criu has ended"),
    ("kill -9 $$", "criu has ended")])
def test_with_a_criu_that_ends(lab: Lab, image: Path, programs: Path, running: int, script: str, said: str) -> None:
    put(programs, script)
    with pytest.raises(CheckpointError, match=said) as caught:
        lab.runtime.checkpoint_container("p1", str(image))
    assert (caught.value.step, caught.value.log_file) == ("checkpoint container", None)


def test_with_what_criu_s_log_says(lab: Lab, image: Path, programs: Path, running: int) -> None:
    """The lines that tell of errors, and where all of it is. What criu has written besides is removed."""
    log = "(00.1) nothing\\n(00.2) Error (criu/mount.c:1): mnt: cannot\\n"
    put(programs, f"echo x >{image}/pages-1.img; printf '{log}' >{image}/dump.log; exit 1")
    with pytest.raises(CheckpointError) as caught:
        lab.runtime.checkpoint_container("p1", str(image))
    error = caught.value
    assert error.log_file == f"{image}/dump.log" and error.log_excerpt == ("Error (criu/mount.c:1): mnt: cannot",)
    assert str(error) == f"checkpoint container '{image}/dump.log': Error (criu/mount.c:1): mnt: cannot"


def test_of_a_further_process(lab: Lab, image: Path, running: int) -> None:
    pid = lab.runtime.exec_process("p1", {"args": ["/bin/sleep", "1000"], "cwd": "/"}, StdioOptions())
    with pytest.raises(CheckpointError, match=f"process {pid} was executed in the container"):
        lab.runtime.checkpoint_container("p1", str(image))
    lab.runtime.kill_process("p1", pid, signal.SIGKILL)
    lab.runtime.wait_on_process("p1", pid)
    lab.runtime.delete_process("p1", pid)


@pytest.mark.parametrize(("options", "said"), [
    ({"parent_path": "/earlier"}, "'/earlier' has to be relative"),
    ({"parent_path": "../none"}, "earlier checkpoint '../none' is no directory"),
    ({"work_path": "/no/such/directory"}, "directory '/no/such/directory': ENOENT")])
def test_with_directories_that_are_not_there(lab: Lab, image: Path, programs: Path, running: int, options: dict[str, Any],
                                             said: str) -> None:
    """That is said before what criu cannot do here."""
    put(programs, "exit 1")
    with pytest.raises(CheckpointError, match=re.escape(said)):
        lab.runtime.checkpoint_container("p1", str(image), CheckpointOptions(**options))
    assert not image.exists()


def test_into_what_is_no_directory(lab: Lab, image: Path, running: int) -> None:
    file = lab.directory / "file"
    file.touch()
    with pytest.raises(CheckpointError, match="ENOTDIR|EEXIST"):
        lab.runtime.checkpoint_container("p1", str(file))


def test_what_was_in_the_directory_stays(lab: Lab, programs: Path, running: int) -> None:
    directory = lab.directory / "other"
    directory.mkdir()
    (directory / "mine").touch()
    put(programs, f"echo x >{directory}/core-1.img; exit 1")
    with pytest.raises(CheckpointError):
        lab.runtime.checkpoint_container("p1", str(directory))
    assert [path.name for path in directory.iterdir()] == ["mine"]


def test_of_joined_namespaces(lab: Lab, image: Path) -> None:
    lab.sleeper(linux={"namespaces": namespaces("pid", "mount", "uts", cgroup="/proc/self/ns/cgroup")})
    with pytest.raises(UnsupportedFieldError) as caught:
        lab.runtime.checkpoint_container("p1", str(image))
    assert caught.value.json_path == "$.linux.namespaces[3].path" and not image.exists()


def test_without_a_mount_namespace(lab: Lab, image: Path) -> None:
    lab.sleeper(linux={"namespaces": namespaces("pid", "uts"), "maskedPaths": [], "readonlyPaths": []}, mounts=[], root={"readonly": False})
    with pytest.raises(UnsupportedFieldError) as caught:
        lab.runtime.checkpoint_container("p1", str(image))
    assert caught.value.json_path == "$.linux.namespaces" and not image.exists()


# restores


def test_from_nothing(lab: Lab, image: Path) -> None:
    error = refuse_restore(lab, image, CheckpointError, f"directory '{image}': ENOENT")
    assert isinstance(error, CheckpointError) and error.errno_name == "ENOENT" and error.step == "restore container"
    image.mkdir()
    refuse_restore(lab, image, CheckpointError, "is no checkpoint of pyruntime: pyruntime.json: ENOENT")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"version": 9}', '"text"', "\udc80"])
def test_from_a_damaged_file(lab: Lab, image: Path, text: str) -> None:
    image.mkdir()
    (image / FILE).write_bytes(text.encode(errors="surrogateescape"))
    refuse_restore(lab, image, CheckpointError, f"{image}/{FILE}' is damaged: ")


def test_from_a_file_that_is_a_link_or_a_fifo(lab: Lab, image: Path) -> None:
    image.mkdir()
    (image / FILE).symlink_to("/etc/passwd")
    refuse_restore(lab, image, CheckpointError, "ELOOP")
    (image / FILE).unlink()
    os.mkfifo(image / FILE)
    refuse_restore(lab, image, CheckpointError, "is damaged: ")


def test_of_a_later_version(lab: Lab, image: Path) -> None:
    write_manifest(image, version=2)
    refuse_restore(lab, image, CheckpointError, "it is of version 2, not 1")


def test_with_an_id_in_use(lab: Lab, image: Path) -> None:
    write_manifest(image)
    pid = lab.sleeper()
    with pytest.raises(ContainerExistsError):
        lab.runtime.restore_container("p1", lab.bundle("true"), str(image), StdioOptions())
    assert lab.runtime.get_init_pid("p1") == pid and lab.runtime.get_container_state("p1").status is Status.RUNNING


def test_with_a_bundle_that_is_none(lab: Lab, image: Path) -> None:
    write_manifest(image)
    with pytest.raises(InvalidBundleError, match="does not exist"):
        lab.runtime.restore_container("p1", str(lab.directory / "none"), str(image), StdioOptions())
    assert not lab.runtime.container_exists("p1")


def test_restore_without_criu(lab: Lab, image: Path, programs: Path) -> None:
    write_manifest(image)
    refuse_restore(lab, image, UnsupportedHostError, "install the package criu")


@pytest.mark.parametrize(("script", "said"), [("echo broken >&2; exit 127", "broken"), ("kill -9 $$", "criu has ended"),
                                              ("sleep 1000 <&- >&- 2>&- 3<&- 3>&- & exit 1", "criu has ended")])
def test_restore_with_a_criu_that_ends(lab: Lab, image: Path, programs: Path, script: str, said: str) -> None:
    """Nor is anything left that it has started: what is in the container's cgroups is the container's."""
    write_manifest(image)
    put(programs, f"PATH=/bin:/usr/bin\n{script}")
    refuse_restore(lab, image, CheckpointError, said)


@pytest.mark.parametrize(("saved", "changes", "json_path"), [
    ({"has_terminal": True}, {}, "$.process.terminal"),
    ({"namespace_bits": flags.CLONE_NEWNS}, {}, "$.linux.namespaces"),
    ({}, {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}, "$.linux.namespaces[6]"),
    ({"namespaces": {"network": "namespace-1"}}, {}, "$.linux.namespaces[1]"),
    ({}, {"linux": {"namespaces": namespaces("pid", "mount", "ipc", "uts", "cgroup", network="/proc/self/ns/net")}}, "$.linux.namespaces[5]")])
def test_with_a_bundle_of_another_container(lab: Lab, image: Path, saved: dict[str, Any], changes: dict[str, Any], json_path: str) -> None:
    write_manifest(image, **saved)
    error = refuse_restore(lab, image, InvalidBundleError, ".", **changes)
    assert isinstance(error, InvalidBundleError) and error.json_path == json_path, error


def test_with_streams_that_were_none(lab: Lab, image: Path) -> None:
    null = SavedStream("file[1:4]", True)
    write_manifest(image, streams=(null, null, NO_STREAM))
    refuse_restore(lab, image, SetupError, "connect in: .* was the null device", StdioOptions(create_in=True))
    refuse_restore(lab, image, SetupError, "connect err: .* is a file of its own", StdioOptions(create_err=True))


def test_the_cgroups_of_another_container(lab: Lab, image: Path, programs: Path) -> None:
    """Like a new container it does not get those that somebody is in."""
    write_manifest(image)
    put(programs, "exit 1")
    pid = lab.sleeper(linux={"cgroupsPath": "/pyruntime/p-of-another"})
    bundle = lab.bundle("true", linux={"cgroupsPath": "/pyruntime/p-of-another"})
    with pytest.raises(SetupError, match="container's cgroup is not empty"):
        lab.runtime.restore_container("p2", bundle, str(image), StdioOptions())
    assert lab.runtime.get_container_state("p1").status is Status.RUNNING and lab.runtime.get_init_pid("p1") == pid
    assert not lab.runtime.container_exists("p2")
