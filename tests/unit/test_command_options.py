"""Options of single commands, and what they mean; with no container."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyruntime.cgroups import Cgroup, cgroups_below
from pyruntime.cli.arguments import parse_command, parse_global
from pyruntime.cli.events import seconds
from pyruntime.cli.main import main
from pyruntime.host import Host
from pyruntime.interface import ContainerProcessState
from pyruntime.plan.process import environment
from pyruntime.spec import Process


class Recorder:
    """A runtime that notes what it is told to change."""

    def __init__(self) -> None:
        self.changed: list[Any] = []
        self.schemas: list[Any] = []
        self.pids: list[int] = []

    def update_container(self, id: str, resources: bytes, *, intel_rdt: dict[str, str] | None = None) -> None:
        self.changed.append(json.loads(resources))
        if intel_rdt is not None:
            self.schemas.append(intel_rdt)

    def get_running_container_processes(self, id: str) -> list[ContainerProcessState]:
        return [ContainerProcessState(pid, ["sleep"], True, False) for pid in self.pids]


def call(runtime: Recorder, *arguments: str) -> int:
    return main(arguments, lambda options: runtime)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("arguments", "resources"), [
    (["--memory", "1048576"], {"memory": {"limit": 1048576}}),
    (["--memory", "50M", "--memory-swap=-1"], {"memory": {"limit": 50 << 20, "swap": -1}}),
    (["--memory-reservation", "1.5 GiB"], {"memory": {"reservation": 3 << 29}}),
    (["--kernel-memory", "2kb", "--kernel-memory-tcp", "3T"], {"memory": {"kernel": 2048, "kernelTCP": 3 << 40}}),
    (["--cpu-share", "200", "--cpu-quota", "-1", "--cpu-period", "100000", "--cpu-burst", "0"],
     {"cpu": {"shares": 200, "quota": -1, "period": 100000, "burst": 0}}),
    (["--cpu-rt-runtime", "1", "--cpu-rt-period", "2", "--cpu-idle", "1"], {"cpu": {"realtimeRuntime": 1, "realtimePeriod": 2, "idle": 1}}),
    (["--cpuset-cpus", "0-1", "--cpuset-mems", "0"], {"cpu": {"cpus": "0-1", "mems": "0"}}),
    (["--pids-limit", "0", "--blkio-weight", "10"], {"pids": {"limit": 0}, "blockIO": {"weight": 10}})])
@pytest.mark.parametrize("is_last", [False, True])
def test_limits(arguments: list[str], resources: dict[str, Any], is_last: bool) -> None:
    runtime = Recorder()
    assert call(runtime, "update", *(("c1", *arguments) if is_last else (*arguments, "c1"))) == 0
    assert runtime.changed == [resources]


@pytest.mark.conformance(47)
def test_schemas_of_resctrl(tmp_path: Path) -> None:
    """Which may be given beside --resources, since that says nothing of them."""
    runtime, limits = Recorder(), tmp_path / "limits"
    limits.write_text('{"pids": {"limit": 9}}')
    assert call(runtime, "update", "--l3-cache-schema", "L3:0=f", "c1") == 0
    assert call(runtime, "update", "--pids-limit", "7", "--mem-bw-schema=MB:0=20", "c1", "--l3-cache-schema=L3:1=f") == 0
    assert call(runtime, "update", "--mem-bw-schema", "MB:0=30", "--resources", str(limits), "c1") == 0
    assert runtime.changed == [{}, {"pids": {"limit": 7}}, {"pids": {"limit": 9}}]
    assert runtime.schemas == [{"l3CacheSchema": "L3:0=f"}, {"l3CacheSchema": "L3:1=f", "memBwSchema": "MB:0=20"}, {"memBwSchema": "MB:0=30"}]


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "nothing to change"), (["--memory", "much"], "'much' is not a number of bytes"), (["--memory", "-2"], "-2"),
    (["--cpu-quota", "1.5"], "'1.5' is not a number"), (["--memory", "1", "-r", "-"], "none can be given besides")])
def test_limits_that_are_none(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = Recorder()
    assert call(runtime, "update", *arguments, "c1") == 1
    assert runtime.changed == [] and said in capfd.readouterr().err


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    processes = [subprocess.Popen(["/bin/sleep", "1000"]) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_ps_is_the_programs_table(sleepers: list[int], tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "ps"
    program.write_text(f"#!/bin/sh\necho '  A PID CMD' \"$@\"\nfor pid in {sleepers[0]} 1 {sleepers[1]}; do echo \"a $pid sleep\"; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    runtime = Recorder()
    runtime.pids = sleepers[1:]
    assert call(runtime, "ps", "c1") == 0
    assert capfd.readouterr().out.splitlines() == ["  A PID CMD -ef", f"a {sleepers[1]} sleep"]
    assert call(runtime, "ps", "c1", "-e", "--x") == 0
    assert capfd.readouterr().out.splitlines()[0] == "  A PID CMD -e --x"


@pytest.mark.parametrize(("script", "said"), [
    (None, "there is no program 'ps'"), ("echo no; echo why >&2; exit 3", "'ps' ended with 3: why"),
    ("echo A B; echo 1 2", "does not tell pids")])
def test_ps_without_a_table(script: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capfd: pytest.CaptureFixture[str]) -> None:
    if script is not None:
        (tmp_path / "ps").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call(Recorder(), "ps", "c1") == 1
    shown = capfd.readouterr()
    assert shown.out == "" and said in shown.err


@pytest.mark.parametrize(("text", "expected"), [("5s", 5.0), ("100ms", 0.1), ("1m30s", 90.0), ("1.5h", 5400.0), (".5s", 0.5)])
def test_durations(text: str, expected: float) -> None:
    options, rest = parse_global(["events", "--interval", text, "c1"])
    parse_command(options, rest)
    assert options.interval == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "1x", "1s2", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


_V1 = (Cgroup("/c/cpu,cpuacct/a", 14, ("cpu", "cpuacct"), False), Cgroup("/c/memory/a", 9, ("memory",), False),
       Cgroup("/c/unified/a", 10, (), True))


@pytest.mark.parametrize(("wanted", "paths"), [
    ({}, ["/c/cpu,cpuacct/a", "/c/memory/a", "/c/unified/a"]), ({"": "/"}, ["/c/cpu,cpuacct/a", "/c/memory/a", "/c/unified/a"]),
    ({"": "b"}, ["/c/cpu,cpuacct/a/b", "/c/memory/a/b", "/c/unified/a/b"]),
    ({"memory": "//b/./c/"}, ["/c/cpu,cpuacct/a", "/c/memory/a/b/c", "/c/unified/a"]),
    ({"cpuacct": "b", "": "c"}, ["/c/cpu,cpuacct/a/b", "/c/memory/a/c", "/c/unified/a/c"])])
def test_cgroups_below(wanted: dict[str, str], paths: list[str]) -> None:
    assert [cgroup.path for cgroup in cgroups_below(_V1, wanted)] == paths


@pytest.mark.parametrize(("cgroups", "wanted", "said"), [
    (_V1, {"": ".."}, "bad sub cgroup path '..'"), (_V1, {"memory": "b/../../ab"}, "bad sub cgroup path"),
    (_V1, {"pids": "b"}, "unknown controller 'pids'"), (_V1[2:], {"memory": "b"}, "unknown controller 'memory'")])
def test_cgroups_that_are_not_below(cgroups: tuple[Cgroup, ...], wanted: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cgroups_below(cgroups, wanted)


@pytest.mark.conformance(13)
@pytest.mark.parametrize(("given", "kept"), [
    ((), ()), (("A=1", "B=2", "A=3"), ("A=3", "B=2")), (("HOME=", "A="), ("A=",)), (("HOME=/x", "HOME="), ()),
    (("HOME=", "HOME=/x"), ("HOME=/x",)),
    (("A=\n",), ("A=\n",))])
def test_a_variable_is_there_once(given: tuple[str, ...], kept: tuple[str, ...]) -> None:
    assert environment(Process(cwd="/", env=given)) == kept


@pytest.mark.parametrize("is_unified", [False, True])
def test_spec_has_a_cgroup_namespace_on_v2(is_unified: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyruntime.cli import documents

    monkeypatch.setattr(documents, "read_host", lambda: Host((6, 1), _hierarchies(is_unified), 0))
    assert main(["spec", "--bundle", str(tmp_path)]) == 0
    kinds = [namespace["type"] for namespace in json.loads((tmp_path / "config.json").read_text())["linux"]["namespaces"]]
    assert ("cgroup" in kinds) == is_unified and "pid" in kinds


def _hierarchies(is_unified: bool) -> Any:
    from pyruntime.host import parse_hierarchies

    return parse_hierarchies("1 1 0:1 / /c rw - cgroup2 c rw\n" if is_unified else "1 1 0:1 / /c rw - cgroup c rw,memory\n")


@pytest.mark.parametrize("arguments", [[], ["--rootless"]])
def test_spec_is_without_privileges_only_if_asked_for(arguments: list[str], tmp_path: Path) -> None:
    """There is a global option of that name too."""
    assert main(["--rootless", "true", "spec", *arguments, "--bundle", str(tmp_path)]) == 0
    kinds = [namespace["type"] for namespace in json.loads((tmp_path / "config.json").read_text())["linux"]["namespaces"]]
    assert ("user" in kinds) == bool(arguments)
