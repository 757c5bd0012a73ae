"""The command `plan`: nothing is done, whoever calls it, and what it says is what would be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spec_examples import Place, put

from pyruntime.cli.main import main
from pyruntime.host import Hierarchy, Host, Unprivileged
from pyruntime.plan.compile import Manner, compile
from pyruntime.plan.compile import Place as At
from pyruntime.runtimes import preview
from pyruntime.runtimes.preview import Previewer, is_given
from pyruntime.spec import load_spec
from pyruntime.spec.default_config import default_config, rootless_config
from pyruntime.testing.snapshot import HostSnapshot

ROOT = Host((6, 18), (Hierarchy("/cg", True),), 2**41 - 1)
USER = Host((6, 18), (), 0, caller=Unprivileged(1000, 1000))
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Exit code, output and errors, on a host of the test's."""
    def run(*arguments: str, host: Host = ROOT) -> tuple[int, str, str]:
        monkeypatch.setattr(preview, "read_host", lambda: host)
        code = main(arguments)
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    return run


def bundle(directory: Path, config: dict[str, Any]) -> str:
    (directory / "rootfs").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


def seccomp() -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "fly"], "action": "SCMP_ACT_ALLOW"}]}


def test_a_line_for_each_operation(tmp_path: Path, call: Call) -> None:
    path = bundle(tmp_path, default_config())
    code, out, err = call("plan", path)
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head == f"container ID of {path}, made by root" and lines[0] == "create:" and "start:" in lines
    spec = load_spec((tmp_path / "config.json").read_bytes())
    plan = compile(spec, ROOT, At("ID", path, f"{path}/rootfs", "/run/pyruntime/ID"), Manner(finds_program=True))
    numbered = [line for line in lines if line[:4].strip().isdecimal()]
    # the directory and the clone are none of them
    assert len(numbered) == len(plan.host) + len(plan.child) + len(plan.init) + 2
    assert [int(line[:4]) for line in numbered] == list(range(1, len(numbered) + 1))
    assert all("  # " in line and not line.endswith("# ") for line in numbered)
    assert any("make node" in line and "/dev/null" in line and "Default Devices" in line for line in numbered)
    assert any("set hostname" in line and line.endswith("# $.hostname") for line in numbered)
    assert any("set umask" in line and "$.process.user.umask (not given); without one it is 0022" in line for line in numbered)


@pytest.mark.parametrize("arguments", [(), ("--format", "json")])
def test_nothing_is_done(arguments: tuple[str, ...], tmp_path: Path, call: Call) -> None:
    """Neither to the host, where the real one is asked, nor to the root that it is given: not even a filter is kept."""
    config = put(put(default_config(), ("linux", "seccomp"), seccomp()), ("hooks",), {"prestart": [{"path": f"{tmp_path}/hook"}]})
    path = bundle(tmp_path / "bundle", config)
    (tmp_path / "hook").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "hook").chmod(0o755)
    before = HostSnapshot.take(tmp_path)
    main(["--root", str(tmp_path / "root"), "plan", *arguments, "--id", "planned", path])  # for whoever this is
    assert call("--root", str(tmp_path / "root"), "plan", *arguments, "--id", "planned", path)[0] == 0
    assert HostSnapshot.take(tmp_path).differences(before, ["planned"]) == []


def test_for_programs(tmp_path: Path, call: Call) -> None:
    config = put(default_config(), ("linux", "seccomp"), seccomp())
    code, out, err = call("--root", "/r", "plan", "--format=json", "--id", "c9", bundle(tmp_path, config))
    found = json.loads(out)
    assert (code, err, found["id"], found["bundle"], found["caller"]) == (0, "", "c9", str(tmp_path), "root")
    assert found["warnings"] == ["system calls that libseccomp does not know have no rules in the filter: fly"]
    assert set(found["steps"][0]) == {"stage", "by", "step", "subject", "details", "operands", "jsonPath", "isGiven", "reason"}
    assert found["steps"][0]["subject"] == "/r/c9"
    by_step = {step["step"]: step for step in found["steps"]}
    assert by_step["set hostname"]["isGiven"] and not by_step["set umask"]["isGiven"] and not by_step["make link"]["isGiven"]
    assert by_step["execute program"] | {"operands": {}} == {
        "stage": "start", "by": "init", "step": "execute program", "subject": "sh", "details": "(2 variables)", "operands": {},
        "jsonPath": "$.process.args", "isGiven": True, "reason": None}
    assert by_step["install filter"]["jsonPath"] == "$.linux.seccomp"


def test_a_path_that_is_not_utf_8(tmp_path: Path, call: Call) -> None:
    path = bundle(tmp_path / "b\udcff", default_config())
    error = json.loads(call("plan", "-f", "json", path)[1])["error"]
    assert error["file"] == f"{tmp_path}/b\\udcff" and "not UTF-8" in error["message"]
    assert f"{tmp_path}/b\\udcff: the path is not UTF-8" in call("plan", path)[2]
    assert f"{tmp_path}/b\\udcff/x" in json.loads(call("plan", "-f", "json", f"{path}/x")[1])["error"]["file"]


@pytest.mark.parametrize(("options", "step"), [
    (["--no-pivot"], "switch root"), ([], "pivot root"), ([], "join session keyring")])
def test_options_of_the_creation(options: list[str], step: str, tmp_path: Path, call: Call) -> None:
    _, out, _ = call("plan", "--format=json", *options, bundle(tmp_path, default_config()))
    assert step in {one["step"] for one in json.loads(out)["steps"]}


def test_without_a_keyring(tmp_path: Path, call: Call) -> None:
    assert "join session keyring" not in call("plan", "--no-new-keyring", bundle(tmp_path, default_config()))[1]


def test_what_would_be_for_a_user(tmp_path: Path, call: Call) -> None:
    *_, last = call("plan", bundle(tmp_path / "1", default_config()))[1].splitlines()
    assert last.startswith("for a user without privileges or a delegated cgroup: refused: ") and "$.linux.namespaces: has no user" in last
    _, out, _ = call("plan", "--format=json", bundle(tmp_path / "2", rootless_config(1000, 1000)))
    other = json.loads(out)["other"]
    assert other["refused"] is None and {step["step"] for step in other["fewer"]} > {"make cgroup", "open cgroup"}
    assert {"write child proc", "make state directory"} < {step["step"] for step in other["more"]}


def test_as_a_user(tmp_path: Path, call: Call) -> None:
    code, out, err = call("plan", bundle(tmp_path, rootless_config(1000, 1000)), host=USER)
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].endswith("made by uid 1000") and "/run/user/1000/pyruntime/ID" in lines[2]
    assert any(line.startswith("for root: ") and "others" in line for line in lines)
    assert any(line.startswith("   + host make cgroup") for line in lines)


@pytest.mark.parametrize("is_json", [False, True])
def test_what_is_refused_for_a_user_alone(is_json: bool, tmp_path: Path, call: Call) -> None:
    path = bundle(tmp_path, default_config())
    code, out, err = call("plan", *(["--format=json"] if is_json else []), path, host=USER)
    assert code == 1 and err == (f"pyruntime: {path}/config.json: $.linux.namespaces: has no user namespace, which uid 1000 needs to make a "
                                 "container without CAP_SYS_ADMIN\n")
    if is_json:
        found = json.loads(out)
        assert found["error"] == {"type": "UnsupportedFieldError", "message": err.removeprefix("pyruntime: ").rstrip(), "file":
                                  f"{path}/config.json", "jsonPath": "$.linux.namespaces", "reason": found["error"]["reason"]}
        assert found["other"]["caller"] == "root" and found["other"]["refused"] is None
    else:
        assert out.startswith("for root: not refused; ") and out.count("\n") == 1


@pytest.mark.parametrize(("place", "value", "kind", "said"), [
    (("process", "cwd"), "relative", "InvalidBundleError", "$.process.cwd"),
    (("process", "apparmorProfile"), "p", "UnsupportedFieldError", "$.process.apparmorProfile"),
    (("linux", "intelRdt"), {"closID": "g"}, "UnsupportedFieldError", "$.linux.intelRdt"),
    (("linux", "cgroupsPath"), "a:b:c", "InvalidBundleError", "$.linux.cgroupsPath")])
def test_a_bundle_that_is_refused(place: Place, value: object, kind: str, said: str, tmp_path: Path, call: Call) -> None:
    """Without privileges it is too, so that nothing is told of others."""
    path = bundle(tmp_path, put(default_config(), place, value))
    code, out, err = call("plan", path)
    assert (code, out) == (1, "") and err.startswith(f"pyruntime: {path}/config.json: {said}") and err.count("\n") == 1
    code, out, err = call("plan", "-f", "json", path)
    assert code == 1 and json.loads(out)["error"]["type"] == kind and json.loads(out)["error"]["jsonPath"] == said and said in err


@pytest.mark.parametrize(("arguments", "said"), [
    (["/no/bundle"], "/no/bundle: the bundle directory does not exist"), (["--id", "a/b", "."], "invalid container id 'a/b'"),
    (["--format", "xml"], "invalid choice: 'xml'"), (["a", "b"], "unrecognized arguments: b")])
def test_what_cannot_be_planned(arguments: list[str], said: str, call: Call) -> None:
    code, out, err = call("plan", *arguments)
    assert (code, out) == (1, "") and said in err and err.count("\n") == 1


def test_systemd_and_resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made before the plan is carried out."""
    monkeypatch.setattr(preview.systemd, "control_group", lambda: "")
    host = Host((6, 18), (Hierarchy("/cg", True),), 2**41 - 1, resctrl="/res")
    config = put(put(default_config(), ("linux", "cgroupsPath"), "a.slice:p:c"), ("linux", "intelRdt"),
                 {"closID": "g", "l3CacheSchema": "L3:0=f", "enableMonitoring": True})
    found = Previewer(bundle(tmp_path, config), "c1", systemd_cgroup=True, host=host).preview()
    told = [(step.step, step.subject, step.details, step.json_path) for step in found.steps[1:5]]
    assert told[0][:2] == ("start unit", "p-c.scope") and "Slice" in told[0][2]
    assert told[1:] == [("make resctrl group", "/res/g", "", "$.linux.intelRdt.closID"),
                        ("write schemata", "/res/g/schemata", "= L3:0=f", "$.linux.intelRdt.l3CacheSchema"),
                        ("make resctrl group", "/res/g/mon_groups/c1", "", "$.linux.intelRdt.enableMonitoring")]


def test_nobody_makes_cgroups_where_none_are_wanted(tmp_path: Path) -> None:
    user = Host((6, 18), (), 0, caller=Unprivileged(1000, 1000))
    previewer = Previewer(bundle(tmp_path, default_config()), "c1", no_cgroups=True, host=user)
    root = previewer.for_other()
    assert root.refused is None and root.more
    assert [step.step for step in root.more if "cgroup" in step.step] == []


@pytest.mark.parametrize(("json_path", "expected"), [
    ("$", True), ("$.a", True), ("$.a[1].b", True), ("$.a[2]", False), ("$.a.b", False), ("$.n", False), ("$.x", False),
    ('$.m["k.1"]', True), ('$.m["k\\"q"]', True), ('$.m["k"]', False)])
def test_what_a_config_has(json_path: str, expected: bool) -> None:
    assert is_given({"a": [1, {"b": 0}], "n": None, "m": {"k.1": "v", 'k"q': ""}}, json_path) is expected
