"""Bundles and ids that cannot work: a typed error that says where, at once, and nothing is left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import NAMESPACES, Lab, namespaces, with_mounts

from pyruntime import StdioOptions, UnsupportedFieldError
from pyruntime.errors import ContainerExistsError, ContainerRuntimeError, InvalidBundleError, InvalidIdError, SetupError
from pyruntime.host import read_host
from pyruntime.testing.snapshot import HostSnapshot

AT_ONCE_S = 5.0


@pytest.fixture
def clean(lab: Lab) -> Iterator[Lab]:
    """What fails leaves no directory, descriptor, mount, cgroup, process, and no entry in the list."""
    before, begin = HostSnapshot.take(lab.root), time.monotonic()
    yield lab
    assert time.monotonic() - begin < AT_ONCE_S
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []
    assert lab.runtime.list_container_states() == []


def refused(lab: Lab, bundle: str, kind: type[ContainerRuntimeError] = InvalidBundleError) -> Any:
    with pytest.raises(kind) as raised:
        lab.runtime.create_container("p1", bundle, StdioOptions())
    assert not lab.runtime.container_exists("p1")
    return raised.value


def with_config(lab: Lab, write: Callable[[Path], object]) -> str:
    bundle = lab.bundle("true")
    file = Path(bundle, "config.json")
    file.unlink()
    write(file)
    return bundle


# the bundle directory


@pytest.mark.conformance(57)
@pytest.mark.parametrize("path", ["none", "none/deeper", "file", "file/below", "", "a\0b", "x" * 5000, "loop"])
def test_bundle_that_is_none(clean: Lab, path: str) -> None:
    (clean.directory / "file").touch()
    (clean.directory / "loop").symlink_to("loop")
    error = refused(clean, str(clean.directory / path) if path else "")
    assert error.file and error.json_path is None
    assert path.partition("\0")[0] in str(error)


def test_bundle_path_that_is_a_link(lab: Lab) -> None:
    """A link to a bundle is a bundle."""
    bundle = lab.bundle("echo fine", root={"path": str(lab.rootfs)})
    link = lab.directory / "link"
    link.symlink_to(bundle)
    pid = lab.runtime.create_container("p1", str(link), StdioOptions(create_out=True))
    assert lab.runtime.get_container_state("p1").bundle_path == str(link)
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "fine\n"


def test_bundle_path_that_is_a_dangling_link(clean: Lab) -> None:
    (clean.directory / "link").symlink_to(clean.directory / "none")
    assert "link" in str(refused(clean, str(clean.directory / "link")))


# config.json as a file


def test_config_that_is_a_fifo(clean: Lab) -> None:
    """Opening one waits for a writer, who never comes."""
    assert "regular file" in refused(clean, with_config(clean, os.mkfifo)).reason


@pytest.mark.parametrize("what", ["missing", "directory", "device", "dangling", "loop", "socket"])
def test_config_that_is_no_file(clean: Lab, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    makes: dict[str, Callable[[Path], object]] = {
        "missing": lambda file: None, "directory": Path.mkdir, "device": lambda file: file.symlink_to("/dev/zero"),
        "dangling": lambda file: file.symlink_to("none"), "loop": lambda file: file.symlink_to(file.name),
        "socket": lambda file: socket.socket(socket.AF_UNIX).bind(os.path.relpath(file)),
    }
    monkeypatch.chdir(clean.directory)
    bundle = with_config(clean, makes[what])
    error = refused(clean, bundle)
    assert error.file == f"{bundle}/config.json" and error.json_path is None


@pytest.mark.parametrize(("size", "filled"), [(50 << 20, "spaces"), (50 << 20, "holes"), (65 << 20, "holes"), (1 << 40, "holes")],
                         ids=["50 MB of spaces", "50 MB", "65 MB", "1 TB"])
def test_config_that_is_large(clean: Lab, size: int, filled: str) -> None:
    """It is read up to a limit, and is no JSON or too large then; a sparse file costs nothing to make."""
    def write(file: Path) -> None:
        with file.open("wb") as opened:
            if filled == "spaces":
                opened.write(b" " * size)
            else:
                opened.truncate(size)

    error = refused(clean, with_config(clean, write))
    assert error.json_path is None and ("larger" in error.reason) is (size > 64 << 20)


def test_config_of_50_megabytes_that_is_right(lab: Lab) -> None:
    """Large alone is no fault."""
    bundle = lab.bundle("echo fine", annotations={"large": "x" * (50 << 20)})
    pid = lab.runtime.create_container("p1", bundle, StdioOptions(create_out=True))
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "fine\n"
    assert len(lab.runtime.get_container_state("p1").annotations["large"]) == 50 << 20


@pytest.mark.conformance(57)
@pytest.mark.parametrize("text", [
    b"", b" ", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"ociVersion": "1.0.2"}', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}{}",
    b'{"ociVersion": NaN}', b'{"a": ' * 100_000 + b"}" * 100_000, b"[" * 1_000_000, b'{"root": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ' + b'[' * 3000 + b"]" * 3000 + b"}}",
], ids=lambda text: repr(text[:20]) + f"-{len(text)}")
def test_config_that_is_wrong(clean: Lab, text: bytes) -> None:
    bundle = with_config(clean, lambda file: file.write_bytes(text))
    assert refused(clean, bundle).file == f"{bundle}/config.json"


# config.json as values

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"process": {"args": []}}, "$.process.args"), ({"process": {"args": None}}, "$.process.args"),
    ({"process": {"args": ["a\0b"]}}, "$.process.args[0]"), ({"process": {"env": ["A=\0"]}}, "$.process.env[0]"),
    ({"process": {"cwd": "/\0"}}, "$.process.cwd"), ({"process": {"cwd": "relative"}}, "$.process.cwd"),
    ({"hostname": "a\0b"}, "$.hostname"), ({"root": {"path": "a\0b"}}, "$.root.path"), ({"root": {"path": "none"}}, "$.root.path"),
    ({"root": {"path": "config.json"}}, "$.root.path"), ({"root": None}, "$.root"),
    ({"mounts": with_mounts({"destination": "/a\0b", "type": "tmpfs"})}, "$.mounts[7].destination"),
    ({"mounts": with_mounts({"destination": "/a", "type": "tmpfs", "options": ["size=\0"]})}, "$.mounts[7].options[0]"),
    ({"linux": {"maskedPaths": ["/a\0"]}}, "$.linux.maskedPaths[0]"), ({"linux": {"cgroupsPath": "/../x"}}, "$.linux.cgroupsPath"),
    ({"linux": {"sysctl": {"kernel.core_pattern": "x"}}}, '$.linux.sysctl["kernel.core_pattern"]'),
    ({"linux": {"namespaces": [{"type": "none"}]}}, "$.linux.namespaces[0].type"),
    ({"linux": {"namespaces": namespaces(*NAMESPACES, "pid")}}, "$.linux.namespaces[6].type"),
    # good documents, of which this host makes no container
    ({"zos": {}}, "$.zos"), ({"process": {"user": {"username": "x"}}}, "$.process.user.username"),
    ({"linux": {"namespaces": namespaces("mount", "uts"), "netDevices": {"lo": {}}}}, "$.linux.netDevices"),
    ({"linux": {"namespaces": namespaces("mount", "uts"), "sysctl": {"net.core.somaxconn": "1"}}}, '$.linux.sysctl["net.core.somaxconn"]'),
    ({"linux": {"namespaces": namespaces("mount")}, "hostname": "x"}, "$.hostname"),
]


@pytest.mark.conformance(57)
@pytest.mark.parametrize(("changes", "json_path"), WRONG, ids=[f"{path}-{i}" for i, (_, path) in enumerate(WRONG)])
def test_value_that_is_wrong(clean: Lab, changes: dict[str, Any], json_path: str) -> None:
    bundle = clean.bundle("true", **changes)
    error = refused(clean, bundle)
    assert error.file == f"{bundle}/config.json"
    assert error.json_path is not None and error.json_path.startswith(json_path), str(error)
    assert "\0" not in str(error)


# what this kernel lacks: changes, error, its JSON path, and errno where the kernel was asked
LACKING: list[tuple[dict[str, Any], type[ContainerRuntimeError], str, str | None]] = [
    ({"mounts": with_mounts({"destination": "/a", "type": "nonefs"})}, SetupError, "$.mounts[7]", "ENODEV"),
    ({"mounts": with_mounts({"destination": "/a", "type": "tmpfs", "options": ["nonesuch=1"]})}, SetupError, "$.mounts[7]",
     "EINVAL"),
    ({"linux": {"sysctl": {"net.none.such": "1"}}}, SetupError, '$.linux.sysctl["net.none.such"]', "ENOENT"),
    ({"linux": {"resources": {"cpu": {"cpus": "900"}}}}, SetupError, "$.linux.resources.cpu.cpus", None),
    ({"linux": {"resources": {"unified": {"none.such": "1"}}}}, SetupError, '$.linux.resources.unified["none.such"]', "ENOENT"),
    ({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390"]}}}, UnsupportedFieldError,
     "$.linux.seccomp.architectures[0]", None),
    ({"process": {"apparmorProfile": "none"}}, *((SetupError, "$.process.apparmorProfile", "ENOENT") if read_host().has_apparmor else
                                                 (UnsupportedFieldError, "$.process.apparmorProfile", None))),
    ({"linux": {"namespaces": namespaces("mount", network="/none")}}, SetupError, "$.linux.namespaces[1].path", "ENOENT"),
    ({"linux": {"namespaces": namespaces("mount", network="/proc/self/ns/uts")}}, SetupError, "$.linux.namespaces[1].path",
     "EINVAL"),
]


@pytest.mark.conformance(57)
@pytest.mark.parametrize(("changes", "kind", "json_path", "errno_name"), LACKING, ids=[row[2] for row in LACKING])
def test_what_the_kernel_lacks(clean: Lab, changes: dict[str, Any], kind: type[ContainerRuntimeError], json_path: str,
                               errno_name: str | None) -> None:
    error = refused(clean, clean.bundle("true", hostname=None, **changes), kind)
    assert error.json_path == json_path
    assert errno_name is None or error.errno_name == errno_name


# ids


@pytest.mark.parametrize("id", ["", ".", "..", "...", ".a", "a/b", "/", "../x", "a\0", "\0", "a b", "a\n", "é", "\ud800", "x" * 256,
                                "x" * 1024, "x" * 1025, "x" * 100_000])
def test_id_that_is_none(clean: Lab, id: str) -> None:
    bundle = clean.bundle("true")
    outside = sorted(os.listdir(clean.directory))
    for act in (lambda: clean.runtime.create_container(id, bundle, StdioOptions()), lambda: clean.runtime.start_container(id),
                lambda: clean.runtime.delete_container(id, force=True), lambda: clean.runtime.kill_container(id, 9),
                lambda: clean.runtime.container_exists(id), lambda: clean.runtime.get_container_state(id)):
        with pytest.raises(InvalidIdError) as raised:
            act()
        assert len(str(raised.value)) < 1000
    assert sorted(os.listdir(clean.directory)) == outside


@pytest.mark.parametrize("id", [None, 7, b"bytes", ["a"]])
def test_id_that_is_no_string(clean: Lab, id: Any) -> None:
    with pytest.raises(InvalidIdError):
        clean.runtime.create_container(id, clean.bundle("true"), StdioOptions())


@pytest.mark.conformance(57)
def test_id_that_exists(lab: Lab) -> None:
    pid = lab.sleeper()
    before = HostSnapshot.take(lab.root)
    with pytest.raises(ContainerExistsError) as raised:
        lab.runtime.create_container("p1", lab.bundle("true"), StdioOptions())
    # also where the bundle is wrong as well: the id is looked at first, and nothing of the other is touched
    with pytest.raises(ContainerExistsError):
        lab.runtime.create_container("p1", "/none", StdioOptions())
    assert raised.value.id == "p1" and lab.runtime.get_container_state("p1").pid == pid
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []


# as another user

NOBODY = """
import json, os, sys
from pyruntime import NativeRuntime, StdioOptions, errors
root, bundle, secret = sys.argv[1:]
rt, own = NativeRuntime(root), NativeRuntime(os.path.join(os.path.dirname(root), "own"))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
def attempt(act):
    try:
        return ["no error", repr(act())]
    except errors.ContainerRuntimeError as error:
        return [type(error).__name__, getattr(error, "errno_name", ""), str(error)]
print(json.dumps([attempt(lambda: rt.create_container("p1", bundle, StdioOptions())),
                  attempt(lambda: own.create_container("p1", secret, StdioOptions())),
                  attempt(lambda: own.create_container("p1", bundle, StdioOptions())),
                  attempt(lambda: rt.list_container_states()), attempt(lambda: rt.get_container_state("p9")),
                  os.listdir(os.path.join(os.path.dirname(root), "own"))]))
"""


def test_another_user(reachable: Lab) -> None:
    """Neither this root, nor a bundle that it may not read, nor the kernel, lets it."""
    lab = reachable
    secret = Path(lab.bundle("true"), "config.json")
    secret.chmod(0o600)
    (lab.directory / "own").mkdir()
    os.chown(lab.directory / "own", 65534, 65534)
    before = HostSnapshot.take(lab.root)
    done = subprocess.run([sys.executable, "-c", NOBODY, str(lab.root), lab.bundle("true"), str(secret.parent)],
                          capture_output=True, text=True, timeout=30, cwd="/")
    assert done.returncode == 0, done.stderr
    foreign, unreadable, unprivileged, listed, absent, left = json.loads(done.stdout)
    assert foreign[0] == "SetupError" and "EACCES" in foreign[2]
    assert unreadable[0] == "InvalidBundleError" and "EACCES" in unreadable[2] and "config.json" in unreadable[2]
    assert unprivileged[0] == "SetupError" and unprivileged[1] in ("EPERM", "EACCES")
    assert listed[0] != "no error" and absent[0] != "no error"
    assert left == []
    assert HostSnapshot.take(lab.root).differences(before, ["p1"]) == []
