"""What users do with an engine, whatever the runtime below it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from engine import CGROUP_DRIVER, Engine

from pyruntime.host import read_host

# ends with 9 when it is told to
SERVICE = "trap 'echo told to stop; exit 9' TERM; echo started; while :; do sleep 0.1; done"


# name: (controller, file) of v1, file of v2
LIMITS = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
    "swap": ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory", "memory.soft_limit_in_bytes", "memory.low"),
    "shares": ("cpu", "cpu.shares", "cpu.weight"),
    "quota": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "period": ("cpu", "cpu.cfs_period_us", "cpu.max"),
    "cpus": ("cpuset", "cpuset.cpus", "cpuset.cpus"),
    "read_bps": ("blkio", "blkio.throttle.read_bps_device", "io.max"),
}


def limits_of(pid: str, *names: str) -> dict[str, int | str]:
    """Of the cgroups of a process, in the terms of v1: those that are named, or all."""
    is_unified = read_host().is_unified
    paths: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))

    def read(name: str) -> str:
        controller, file, unified_file = LIMITS[name]
        if is_unified:
            return Path("/sys/fs/cgroup", paths[""].strip("/"), unified_file).read_text().strip()
        return Path("/sys/fs/cgroup", controller, paths[controller].strip("/"), file).read_text().strip()

    def limit(name: str) -> int | str:
        text = read(name)
        match name:
            case "cpus":
                return text
            case "read_bps":
                return int(text.split()[1].removeprefix("rbps="))
            case "quota" | "period" if is_unified:
                return int(text.split()[name == "period"])
            case "shares" if is_unified:  # the stock runtimes may still have the older formula
                return {"59": 512, "20": 512, "174": 2048, "79": 2048}[text]
            case "swap" if is_unified:
                return int(text) + int(read("memory"))
        return int(text)

    return {name: limit(name) for name in names or LIMITS}


class Journey:
    """Tests for one engine; subclasses have the fixture `engine`, which is also parametrised with the engine's stock runtime."""

    @pytest.mark.parametrize(("command", "code"), [
        (["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "sleep 60 & kill -9 $!; wait $!"], 137),
        (["no-such-program"], 127), (["/no/such/program"], 127), (["/etc/not-executable"], 126)])
    def test_exit_code(self, engine: Engine, command: list[str], code: int) -> None:
        ended = engine.run("--rm", "box", *command)
        assert ended.code == code, ended
        if code == 127:  # where it is 126, crun names no program
            assert command[0] in ended.err, ended

    def test_cgroup(self, engine: Engine) -> None:
        """By the driver that is the engine's default on the host; systemd then knows the limits."""
        id = engine.run("-d", "--memory=64m", "--pids-limit=50", "box", "sleep", "1000").out.splitlines()[-1]
        pid = engine.succeed("inspect", "--format", "{{.State.Pid}}", id)
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        assert id in cgroups
        cgroup = cgroups.splitlines()[-1].partition("::")[2]
        # Debian's crun makes one more below that of the unit, and tells systemd of no limits
        of_unit = cgroup.removesuffix("/container")
        if CGROUP_DRIVER == "systemd":
            assert of_unit.endswith(f"-{id}.scope") and cgroup.split("/")[1].endswith(".slice"), cgroup
            shown = subprocess.run(["systemctl", "show", "-pMemoryMax", "-pTasksMax", "-pActiveState", Path(of_unit).name], check=True,
                                   capture_output=True, text=True).stdout
            expected = {"ActiveState=active"} | ({"MemoryMax=67108864", "TasksMax=50"} if cgroup == of_unit else set())
            assert set(shown.split()) >= expected, shown
            assert Path("/sys/fs/cgroup", cgroup.strip("/"), "memory.max").read_text() == "67108864\n"
        engine.succeed("exec", id, "true")
        engine.succeed("kill", id)
        engine.succeed("rm", "-f", id)
        assert CGROUP_DRIVER != "systemd" or not Path("/sys/fs/cgroup", cgroup.strip("/")).exists()

    def test_streams(self, engine: Engine) -> None:
        ended = engine.run("--rm", "-i", "box", "sh", "-c", "cat; echo wrong >&2", stdin="typed")
        assert (ended.code, ended.out, ended.err) == (0, "typed", "wrong")

    def test_terminal(self, engine: Engine) -> None:
        ended = engine.in_terminal("run", *engine.run_options, "--rm", "-it", "box", "sh", "-c", "tty; test -t 0 -a -t 1 -a -t 2; exit 5")
        assert ended.code == 5, ended
        assert "/dev/pts/0" in ended.out, ended

    def test_user_and_files(self, engine: Engine, volume: str) -> None:
        script = "id -u; id -g; cat /volume/file; echo $NAME; hostname; touch /volume/new || echo read-only"
        ended = engine.run("--rm", "-u", "1000:100", "-v", f"{volume}:/volume:ro", "-e", "NAME=value", "box", "sh", "-c", script)
        lines = ended.out.splitlines()
        assert (ended.code, lines[:4], lines[-1], len(lines)) == (0, ["1000", "100", "text", "value"], "read-only", 6), ended

    def test_output_is_reopened_by_who_is_not_root(self, engine: Engine) -> None:
        """Images log to /dev/stdout, which opens the pipe anew."""
        ended = engine.run("--rm", "-u", "1000", "box", "sh", "-c", "echo line >/proc/self/fd/1")
        assert (ended.code, ended.out) == (0, "line"), ended

    def test_limits(self, engine: Engine) -> None:
        ended = engine.run("--rm", "--pids-limit", "5", "box", "sh", "-c", "for i in 1 2 3 4 5 6 7; do sleep 1 & done; wait")
        assert "fork" in ended.err, ended

    def test_limits_of_every_kind_and_their_changes(self, engine: Engine) -> None:
        id = engine.run("-d", "--memory=64m", "--memory-swap=96m", "--memory-reservation=32m", "--cpu-shares=512", "--cpu-period=50000",
                        "--cpu-quota=20000", "--cpuset-cpus=0", "--device-read-bps=/dev/vda:1mb", "box", "sleep", "1000").out.splitlines()[-1]
        try:
            pid = engine.succeed("inspect", "--format", "{{.State.Pid}}", id)
            assert limits_of(pid) == {"memory": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "shares": 512, "quota": 20000,
                                      "period": 50000, "cpus": "0", "read_bps": 1 << 20}
            engine.succeed("update", "--memory=80m", "--memory-swap=160m", "--cpu-shares=2048", id)
            changed = limits_of(pid)
            assert (changed["memory"], changed["swap"], changed["shares"]) == (80 << 20, 160 << 20, 2048)
            assert (changed["reservation"], changed["quota"], changed["cpus"]) == (32 << 20, 20000, "0")
        finally:
            engine.succeed("rm", "-f", id)

    def test_service(self, engine: Engine) -> None:
        engine_out = engine.run("-d", "--name", "service", "box", "sh", "-c", SERVICE)
        assert engine_out.code == 0, engine_out
        try:
            engine.await_output("service", "started")
            self.execute(engine)
            assert SERVICE[:20] in engine.succeed("top", "service")
            engine.succeed("pause", "service")
            assert engine.succeed("inspect", "-f", "{{.State.Status}}", "service") == "paused"
            engine.succeed("unpause", "service")
            engine.succeed("stop", "-t", "20", "service")
            assert engine.succeed("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "service") == "exited 9"
            assert engine.succeed("logs", "service").splitlines() == ["started", "told to stop"]
            engine.succeed("start", "service")
            assert engine.succeed("inspect", "-f", "{{.State.Status}}", "service") == "running"
            engine.succeed("kill", "service")
            assert engine.succeed("wait", "service") == "137"
        finally:
            engine.succeed("rm", "-f", "service")

    def execute(self, engine: Engine) -> None:
        """In the running container."""
        assert engine.succeed("exec", "service", "cat", "/etc/passwd") == "root:x:0:0:root:/:/bin/sh"
        assert engine("exec", "service", "sh", "-c", "exit 6").code == 6
        assert engine("exec", "-u", "5", "-i", "service", "sh", "-c", "id -u; cat", stdin="in").out == "5\nin"
        missing = engine("exec", "service", "no-such-program")
        assert missing.code in (126, 127) and "no-such-program" in missing.out + missing.err, missing
        typed = engine.in_terminal("exec", "-it", "service", "sh", "-c", "tty; exit 7")
        assert (typed.code, "/dev/pts/" in typed.out) == (7, True), typed

    def test_removal_by_force(self, engine: Engine) -> None:
        id = engine.run("-d", "box", "sh", "-c", SERVICE).out.splitlines()[-1]
        engine.succeed("rm", "-f", id)
        assert id not in engine.succeed("ps", "-aq", "--no-trunc").splitlines()
