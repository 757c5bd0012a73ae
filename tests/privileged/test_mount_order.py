"""Mounts of what the same configuration has mounted before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts
from test_mapped_mounts import mapping, owned  # noqa: F401  # a fixture

from pyruntime.errors import SetupError

USER = {"linux": {"namespaces": namespaces(*NAMESPACES, "user"), **MAPS}}
# where hooks are to see the mounts, these are made before the change of root
CASES: dict[str, dict[str, Any]] = {"": {}, "hook": {"hooks": {"createContainer": [{"path": "/bin/true"}]}}, "user": USER,
                                    "user and hook": {**USER, "hooks": {"createContainer": [{"path": "/bin/true"}]}}}
every_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def places(reachable: Lab) -> None:
    """A container's root may not make them in a root file system that is the host's."""
    for name in ("data", "final", "other"):
        (reachable.rootfs / name).mkdir()


@pytest.mark.conformance(3, 4)
@every_case
@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_a_source_that_an_earlier_mount_makes(reachable: Lab, volume: Path, kind: str, changes: dict[str, Any]) -> None:
    """Of the host's directory of that name nothing is seen, and what comes later is not part of it."""
    lab = reachable
    (lab.rootfs / "data" / "of-the-host").touch()
    # before the last bind there are two mounts one in the other, and after it a third one
    mounts = [bind(volume, "bind", to="/data"), bind(volume / "sub", "bind", to="/data/sub"),
              bind(lab.rootfs / "data", kind, "ro", to="/final"), bind(volume, "bind", to="/data/late")]
    shown = lab.run("cd /final && ls && ls sub late; touch x sub/x; cat /data/file", mounts=with_mounts(*mounts), **changes)
    assert shown.split("\n")[:4] == ["back", "file", "late", "sub"], shown
    assert shown.split()[4:] == ["late:", "sub:", *(["inner"] if kind == "rbind" else []), "text"]
    assert not (volume / "x").exists(), "it is read-only"


@pytest.mark.conformance(4)
def test_a_chain_of_sources_and_places_as_the_host_has_them(lab: Lab, volume: Path) -> None:
    for name in ("a", "b", "c"):
        (volume / name / "in").mkdir(parents=True)
        (volume / name / "in" / "name").write_text(name)
    root = lab.rootfs
    mounts = [bind(volume / "a", "bind", to="/mnt"), bind(volume / "b", "bind", to="/mnt/in"), bind(volume / "c", "bind", to="/mnt/in/in"),
              bind(root / "mnt" / "in", "rbind", to=f"{root}/mnt/in/in/in"), bind(root / "mnt", "rbind", to=f"{root}/final")]
    assert lab.run("cat /final/in/in/in/in/in/name", mounts=with_mounts(*mounts)) == "c"
    assert not (root / str(root)[1:]).exists()


@pytest.mark.conformance(3, 5)
@every_case
@pytest.mark.parametrize("kind", ["bind", "rbind"])
def test_places_in_what_is_read_only(reachable: Lab, volume: Path, kind: str, changes: dict[str, Any]) -> None:
    """They are made, for a directory and for a file, and afterwards nobody writes there."""
    volume.chmod(0o777)
    mounts = [bind(volume, kind, "ro", to="/data"), {"destination": "/data/new/place", "type": "tmpfs"},
              bind(volume / "file", "bind", to="/data/copy")]
    script = "cat /data/copy; touch /data/x /data/new/x; touch /data/new/place/x && echo made"
    shown = reachable.run(script, mounts=with_mounts(*mounts), **changes)
    assert shown.split() == ["text", "made"]
    assert sorted(path.name for path in volume.iterdir()) == ["back", "copy", "file", "late", "new", "sub"]
    assert (volume / "copy").read_bytes() == b"" and [path.name for path in (volume / "new").iterdir()] == ["place"]


@pytest.mark.conformance(2)
@every_case
def test_the_root_with_what_is_mounted_in_it(reachable: Lab, volume: Path, changes: dict[str, Any]) -> None:
    lab = reachable
    mounts = [bind(volume, "bind", to="/data"), bind(lab.rootfs, "rbind", to="/data/late")]
    assert lab.run("cat /data/late/data/file", mounts=with_mounts(*mounts), **changes) == "text\n"


@pytest.mark.conformance(8)
@every_case
def test_ids_of_such_a_source(reachable: Lab, owned: Path, changes: dict[str, Any]) -> None:  # noqa: F811
    # a mount of the host, and that is mapped by the caller where the init may not
    host = 100000 if "linux" in changes else 0
    mounts = [bind(owned, "rbind", to="/data"), {**bind(reachable.rootfs / "data", "rbind", "idmap", to="/tmp"), **mapping(host + 1000)},
              {**bind(reachable.rootfs / "data" / "sub", "bind", "idmap", to="/other"), **mapping(host + 2000)}]
    owned.chmod(0o777)
    shown = reachable.run("stat -c %u /tmp/of0 /tmp/of7 /other/of7 /data/of7", mounts=with_mounts(*mounts), **changes).split()
    assert shown == ["1000", "1007", "2007", "65534" if host else "7"]


@pytest.mark.conformance(57)
@pytest.mark.parametrize(("source", "options", "changes", "step", "errno_name"), [
    ("data/none", ("bind",), {}, "copy tree", "ENOENT"), ("data/none", ("bind",), USER, "copy tree", "ENOENT"),
    ("proc", ("bind", "idmap"), {}, "map mount ids", "EINVAL"), ("proc", ("bind", "idmap"), USER, "map offered mount", "EINVAL"),
    # the init fails before it offers anything
    ("data/none", ("bind", "idmap"), USER, "copy tree", "ENOENT"),
])
def test_such_a_source_that_cannot_be_bound(reachable: Lab, volume: Path, source: str, options: tuple[str, ...], changes: dict[str, Any],
                                            step: str, errno_name: str) -> None:
    lab = reachable
    mount = bind(lab.rootfs / source, *options, to="/tmp") | (mapping(1000) if "idmap" in options else {})
    with pytest.raises(SetupError) as caught:
        lab.create("true", mounts=with_mounts(bind(volume, "bind", to="/data"), mount), **changes)
    error = caught.value
    is_of_mapping = step != "copy tree"
    assert (error.step, error.errno_name) == (step, errno_name)
    assert error.json_path == ("$.mounts[8].options[1]" if is_of_mapping else "$.mounts[8].source")
    assert error.path == ("/tmp" if is_of_mapping else f"/{source}")
