"""Plans that are kept for the front end: for which command line one is, and that nothing else is taken for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_front import HANDED_OVER, Front, front, process, put, store

from pyruntime.host import read_host
from pyruntime.native.encoder import encode
from pyruntime.native.kept import FILES_KEPT, PlanFile, place_of_value
from pyruntime.plan.compile import Manner
from pyruntime.plan.operations import Plan
from pyruntime.runtimes.compiled import BundleCache
from pyruntime.runtimes.kept import keep_bundle
from pyruntime.state import Store
from pyruntime.testing.bundles import default_config

__all__ = ["front", "process", "store"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="plans are kept for root")
EMPTY = encode(Plan((), (), (), 0, None, 0, 0))
TOLD = (b"", b"")
Where = Callable[..., str]


def plan_file(*arguments: str) -> PlanFile:
    return PlanFile(arguments, lambda warnings, is_json: "".join(warnings).encode())


@pytest.fixture
def directory(store: Store, process: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[Path]:
    """With a container c1 of the bundle /bundle, a bundle, and process.json."""
    (tmp_path / "bundle" / "rootfs").mkdir(parents=True)
    (tmp_path / "bundle" / "config.json").write_text("{}")
    (tmp_path / "process.json").write_text("{}")
    put(store, process.pid, bundle=str(tmp_path / "bundle"))
    yield tmp_path


@pytest.fixture
def where(directory: Path) -> Where:
    """The name of the file, '' where no plan is kept."""
    return lambda *arguments: plan_file("--root", f"{directory}/root", *arguments).path


def test_an_exec_is_told_by_all_that_its_plan_is_made_of(where: Where, directory: Path) -> None:
    process = str(directory / "process.json")
    command = ("exec", "--process", process, "c1")
    known = {where(*command)}
    assert str(next(iter(known))).startswith(f"{directory}/root/c1/exec-")

    def is_new(*arguments: str) -> bool:
        before = len(known)
        known.add(where(*arguments))
        return len(known) > before

    assert not is_new(*command)
    # of no effect on what is executed
    assert not is_new("exec", "--detach", "--pid-file", "/p", "--process", process, "c1")
    assert not is_new("--log", "/l", *command)
    Path(process).write_text('{"args":[]}')
    assert is_new(*command)
    state = directory / "root" / "c1" / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"limits_pids":true', b'"limits_pids":false'))
    assert is_new(*command)
    assert is_new("exec", "c1", "true") and is_new("exec", "c1", "true", "x") and is_new("exec", "c1", "truex")
    for option, value in (("--env", "A=B"), ("--env", "A=C"), ("--cwd", "A=B")):
        assert is_new("exec", option, value, "c1", "true")
    assert is_new("exec", "c1", "true", "--env", "A=B")
    (directory / "bundle" / "config.json").write_text("[]")
    assert is_new("exec", "c1", "true")
    assert not is_new("exec", "c1", "true") and "" not in known


def test_a_creation_is_told_by_all_that_its_plan_is_made_of(where: Where, directory: Path) -> None:
    bundle = str(directory / "bundle")
    known = {where("create", "--bundle", bundle, "c2")}
    assert str(next(iter(known))).startswith(f"{directory}/root/.plans/")

    def is_new(*arguments: str) -> bool:
        before = len(known)
        known.add(where(*arguments))
        return len(known) > before

    assert not is_new("create", "-b", bundle, "c3") and not is_new("run", "--detach", "--pid-file", "/p", "--bundle", bundle, "c4")
    assert is_new("create", "--bundle", bundle, "c10") and is_new("create", "--no-pivot", "--bundle", bundle, "c2")
    (directory / "bundle" / "config.json").write_text("[]")
    assert is_new("create", "--bundle", bundle, "c2")
    assert "" not in known


NAMES = {
    "sha256": ("3f" * 32, "c0" * 32),
    "short": ("00f143a48667", "f4ab10f39f1d"),
    "uuid": ("45fb66c2-4395-e5c0-9f1b-7434c1a3ce30", "733f8a74-a12c-2dee-4f44-97bbb97ca8f9"),
    "time": ("2026-11-26T18:14:41.063005471", "2026-11-26T18:14:42.491202885"),
    "second": ("2026-11-26T18:14:41", "2027-01-01T00:00:00"),
}
NONE = {
    "number": ("137438953472", "137438953473"),
    "digits": ("123456789012", "123456789013"),
    "short": ("00f143a4866", "00f143a4867"),
    "capitals": ("00F143A48667", "00F143A48668"),
    "date": ("2026-11-26", "2026-11-27"),
    "long": ("a" * 256, "b" * 256),
}


@pytest.mark.parametrize(("name", "other"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("around", ['"%s"', '"/a/%s/b"', '"libpod-%s.scope"', '"HOSTNAME=%s"', '"%sZ"', '"%s","%s"', '"_%s_"'])
def test_generated_names_do_not_tell_a_bundle_from_the_next(name: str, other: str, around: str, directory: Path) -> None:
    config = directory / "bundle" / "config.json"
    files = []
    for value in (name, other):
        config.write_text(around.replace("%s", value))
        files.append(plan_file("--root", f"{directory}/root", "create", "--bundle", str(config.parent), "c2"))
        assert files[-1].values == [b"c2", value.encode()]
    assert files[0].path == files[1].path != ""
    text = around.replace("%s", other).encode()
    assert files[1].exchange(text, [b"c2", name.encode()]) == around.replace("%s", name).encode()
    # what comes twice is not the same as two
    config.write_text(f'"{name}","{other}"')
    assert plan_file("--root", f"{directory}/root", "create", "--bundle", str(config.parent), "c2").path != files[0].path


@pytest.mark.parametrize(("name", "other"), NONE.values(), ids=NONE)
def test_all_else_does(name: str, other: str, where: Where, directory: Path) -> None:
    names = set()
    for value in (name, other):
        (directory / "bundle" / "config.json").write_text(f'{{"a": "{value}", "b": {value if value.isdigit() else 0}}}')
        names.add(where("create", "--bundle", f"{directory}/bundle", "c2"))
    assert len(names) == 2 and "" not in names


def test_an_id_may_be_such_a_name(directory: Path) -> None:
    """As with engines: the configuration has it too, and so has the bundle's path."""
    files = []
    for id in ("3f" * 32, "c0" * 32):
        bundle = directory / id / "userdata"
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(f'{{"hostname": "{id[:12]}", "cgroupsPath": "/a/{id}"}}')
        files.append(plan_file("--root", f"{directory}/root", "run", "--bundle", str(bundle), id))
        assert files[-1].values == [id.encode(), id[:12].encode()]
    assert files[0].path == files[1].path
    # another one's id is not one's own
    (bundle / "config.json").write_text(f'{{"hostname": "{id[:12]}", "cgroupsPath": "/a/{"3f" * 32}"}}')
    assert plan_file("--root", f"{directory}/root", "run", "--bundle", str(bundle), id).path != files[0].path


def test_a_text_with_the_byte_of_a_place_is_nobody_elses(where: Where, directory: Path) -> None:
    (directory / "bundle" / "config.json").write_bytes(b'"' + place_of_value(1) + b'0000000000"')
    assert where("create", "--bundle", f"{directory}/bundle", "c2") == ""
    bundle = directory / "a\1b"
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    assert where("create", "--bundle", str(bundle), "c2") == ""


@pytest.mark.parametrize(("path", "is_kept"), [("/a/b", True), *((f"/a{chr(byte)}b", byte > 4) for byte in range(1, 6))])
@pytest.mark.parametrize("field", ["cgroupsPath", "root"])
def test_no_path_has_the_byte_of_a_place(path: str, is_kept: bool, field: str, directory: Path) -> None:
    """That which an escape of JSON stands for, which the key does not have."""
    config = default_config()
    rootfs = directory / (path.removeprefix("/") if field == "root" else "bundle/rootfs")
    rootfs.mkdir(parents=True, exist_ok=True)
    config["root"]["path"] = str(rootfs)
    if field != "root":
        config["linux"][field] = path
    (directory / "bundle" / "config.json").write_text(json.dumps(config))
    root, bundle = f"{directory}/root", f"{directory}/bundle"
    file = plan_file("--root", root, "create", "--bundle", bundle, "c2")
    keep_bundle(file, BundleCache(read_host(), root), bundle, "c2", root, Manner(finds_program=True))
    assert os.path.exists(file.path) is is_kept


def test_there_are_no_more_values_than_have_room(directory: Path) -> None:
    names = [f"{number:012x}"[::-1].replace("0", "a") + "b" for number in range(1, 100)]
    files = []
    for last in ("c" * 20, "d" * 20):
        (directory / "bundle" / "config.json").write_text(json.dumps([*names, last]))
        files.append(plan_file("--root", f"{directory}/root", "create", "--bundle", f"{directory}/bundle", "c2"))
        assert files[-1].values[1:] == [name.encode() for name in dict.fromkeys(names)][:63]
    # what has none is a part of the key
    assert files[0].path != files[1].path


@pytest.mark.parametrize("arguments", [("create", "--bundle", "relative", "c2"), ("--systemd-cgroup", "create", "--bundle", "/tmp", "c2"),
                                       ("exec", "c2", "true"), ("exec", "--process", "/no/such/file", "c1"), ("exec", "-t"), ("list",), ()],
                         ids=" ".join)
def test_of_others_none_is_kept(arguments: tuple[str, ...], where: Where) -> None:
    assert where(*arguments) == ""


def test_a_pipe_is_left_to_who_needs_it(where: Where, directory: Path, front: Front) -> None:
    pipe = directory / "pipe"
    os.mkfifo(pipe)
    assert where("exec", "--process", str(pipe), "c1") == ""
    assert front("--root", f"{directory}/root", "exec", "--process", str(pipe), "c1").stdout.startswith(HANDED_OVER)


def test_what_has_changed_while_it_was_compiled_is_not_kept(directory: Path) -> None:
    arguments = ["--root", f"{directory}/root", "exec", "--process", f"{directory}/process.json", "c1"]
    file = plan_file(*arguments)
    (directory / "process.json").write_text('{"args":["other"]}')
    file.keep(EMPTY, TOLD)
    assert not os.path.exists(file.path)
    file = plan_file(*arguments)
    file.keep(EMPTY, TOLD)
    whole = Path(file.path).read_bytes()
    # one that is damaged is made again
    Path(file.path).write_bytes(b"")
    file.keep(EMPTY, TOLD)
    assert Path(file.path).read_bytes() == whole and len(list(Path(file.path).parent.glob("exec-*"))) == 1


def test_those_used_last_are_kept(directory: Path) -> None:
    names = []
    for number in range(FILES_KEPT["exec-"] + 3):
        file = plan_file("--root", f"{directory}/root", "exec", "c1", str(number))
        file.keep(EMPTY, TOLD)
        os.utime(file.path, (number, number))
        names.append(os.path.basename(file.path))
    assert {path.name for path in (directory / "root" / "c1").glob("exec-*")} == set(names[-FILES_KEPT["exec-"]:])
    assert (directory / "root" / "c1" / "state.json").exists()


def test_without_a_kept_plan_it_is_handed_over(directory: Path, front: Front) -> None:
    bundle = f"{directory}/bundle"
    for arguments in (("exec", "c1", "true"), ("create", "--bundle", bundle, "c2"), ("run", "--bundle", bundle, "c2")):
        assert front("--root", f"{directory}/root", *arguments).stdout == f"{HANDED_OVER} --root {directory}/root {' '.join(arguments)}\n"
    assert not (directory / "root" / "c2").exists()


def test_a_plan_that_is_none_is_handed_over_and_leaves_nothing(directory: Path, front: Front) -> None:
    """What is executed is checked like every plan."""
    (directory / "bundle" / "config.json").write_text(json.dumps({"a": 1}))
    for arguments in (["exec", "c1", "true"], ["create", "--pid-file", f"{directory}/pid", "--bundle", f"{directory}/bundle", "c2"]):
        file = plan_file("--root", f"{directory}/root", *arguments)
        file.keep(EMPTY, (b"w", b"w"), (), b"{}", f"{directory}/bundle/rootfs".encode(), b"/none")
        data = Path(file.path).read_bytes()
        for cut in (0, 8, 40, 60, len(data) - 1):
            Path(file.path).write_bytes(data[:cut])
            assert front("--root", f"{directory}/root", *arguments).stdout.startswith(HANDED_OVER)
        # the right one, but of another build, and with an operation that there is not
        Path(file.path).write_bytes(b"\0" * 8 + data[8:])
        assert front("--root", f"{directory}/root", *arguments).stdout.startswith(HANDED_OVER)
        Path(file.path).write_bytes(data[:64] + b"\xff" * 16 + data[80:])
        assert front("--root", f"{directory}/root", *arguments).stdout.startswith(HANDED_OVER)
    assert not (directory / "root" / "c2").exists() and not list(directory.glob("pid*"))
