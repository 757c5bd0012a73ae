"""runc, crun and pyruntime, as the programs that they are: a process for every operation."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.bundle import CGROUP_PARENT
from bench.samples import ContenderError, Sample

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of the containers that `create` leaves behind: not every host's process 1 waits for them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise ContenderError(f"PR_SET_CHILD_SUBREAPER: {os.strerror(ctypes.get_errno())}")


class CommandLine:
    """Times go from the spawn to the exit of the program; `posix_spawn` does not copy this process's memory."""

    def __init__(self, name: str, directory: Path, bundle: Path, sleep_bundle: Path, program: str | None = None) -> None:
        program = shutil.which(program or name)
        if program is None:
            raise ContenderError("not installed")
        adopt_orphans()
        self.name = name
        self._program = program
        self._directory = directory
        self._root = directory / f"{name}-root"
        self._bundle = bundle
        self._sleep_bundle = sleep_bundle
        self._pid_file = directory / f"{name}.pid"
        self._null = os.open(os.devnull, os.O_RDWR)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._held: str | None = None
        self._held_pid = 0
        self._count = 0

    def version(self) -> str:
        completed = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True)
        return completed.stdout.splitlines()[0]

    def _call(self, *arguments: str) -> int:
        """Run it, return the nanoseconds that it took."""
        streams = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, self._null, 1),
            (os.POSIX_SPAWN_DUP2, self._errors.fileno(), 2),
        ]
        command = [self._program, "--root", str(self._root), *arguments]
        begin = time.perf_counter_ns()
        pid = os.posix_spawn(self._program, command, os.environ, file_actions=streams)
        try:
            _, status = os.waitpid(pid, 0)
        except KeyboardInterrupt:
            os.waitpid(pid, 0)  # it got the signal too, or ends soon
            raise
        end = time.perf_counter_ns()
        if status:
            raise ContenderError(f"'{' '.join(command)}' failed: {self._last_error()}")
        return end - begin

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def _next_id(self) -> str:
        self._count += 1
        return f"bench-{self.name}-{self._count}"

    def cycle(self) -> Sample:
        return {"cycle": self._call("run", "--bundle", str(self._bundle), self._next_id())}

    def run_sleep(self) -> int:
        pid = self._create(self._sleep_bundle)
        assert self._held is not None
        self._call("start", self._held)
        return pid

    def create(self) -> int:
        return self._create(self._bundle)

    def _create(self, bundle: Path, id: str | None = None) -> int:
        id = id or self._next_id()
        self._call("create", "--bundle", str(bundle), "--pid-file", str(self._pid_file), id)
        self._held = id
        self._held_pid = int(self._pid_file.read_text())
        return self._held_pid

    def life(self) -> Sample:
        """What an engine calls for one container, from the same bundle again and again."""
        return self._life(self._sleep_bundle, self._next_id())

    def _life(self, bundle: Path, id: str) -> Sample:
        begin = time.perf_counter_ns()
        pid = self._create(bundle, id)
        created = time.perf_counter_ns() - begin
        assert self._held is not None
        times = {"create": created, "start": self._call("start", self._held), "state": self._call("state", self._held),
                 "kill": self._call("kill", self._held, "KILL")}
        os.waitpid(pid, 0)  # its end is nothing of the runtime's
        times["delete"] = self._call("delete", self._held)
        self._held = None
        return {**times, "cycle": sum(times.values())}

    def engine_life(self) -> Sample:
        """The same of a bundle as podman makes it: one kind of container, and names that were generated for this one all over it."""
        id = secrets.token_hex(32)
        bundle = self._directory / id / "userdata"
        bundle.mkdir(parents=True)
        config = json.loads((self._sleep_bundle / "config.json").read_text())
        config["root"]["path"] = str(self._sleep_bundle / "rootfs")
        config["hostname"] = id[:12]
        config["process"]["env"].append(f"HOSTNAME={id[:12]}")
        config["linux"]["cgroupsPath"] = f"/{CGROUP_PARENT}/libpod-{id}"
        config["annotations"] = {"io.kubernetes.cri-o.Created": f"{datetime.datetime.now().isoformat(timespec='microseconds')}Z"}
        (bundle / "config.json").write_text(json.dumps(config))
        try:
            return self._life(bundle, id)
        finally:
            shutil.rmtree(bundle.parent)

    def new_life(self) -> Sample:
        """The same of a bundle that is like none before."""
        path = self._sleep_bundle / "config.json"
        config = json.loads(path.read_text())
        config["annotations"] = {"bench": str(self._count)}
        path.write_text(json.dumps(config))
        return self.life()

    def execute(self) -> Sample:
        assert self._held is not None
        return {"cycle": self._call("exec", self._held, "/bin/true")}

    def remove(self) -> None:
        if self._held is not None:
            self._call("delete", "--force", self._held)
            self._held = None
            os.waitpid(self._held_pid, 0)  # ours: see adopt_orphans

    def close(self) -> None:
        try:
            self.remove()
        finally:
            os.close(self._null)
            self._errors.close()
