"""Docker with directories of its own: a daemon, and the containerd that it uses."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from containerd import Containerd
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, Engine, daemon, import_image, leaving_no_files, remove_cgroups, require, unmount_below

# one of its own, which Docker sets up by a hook
NETWORK = "--network=none"
# of Docker's containers, in containerd and below --root
NAMESPACE = "moby"


class Docker(Engine):
    """A client of a daemon, which can be ended and started again.

    options         of the daemon's command line
    configuration   the text of its daemon.json
    """

    def __init__(self, directory: Path, options: list[str], configuration: str) -> None:
        self.directory = directory
        self.containerd = Containerd(directory, disabled=["io.containerd.grpc.v1.cri"])
        self._socket = directory / "docker.sock"
        super().__init__(["docker", "--config", f"{directory}/client", "--host", f"unix://{self._socket}"], {}, [])
        (directory / "daemon.json").write_text(configuration)
        self._line = [
            "dockerd", "--config-file", f"{directory}/daemon.json", "--host", f"unix://{self._socket}", "--data-root", f"{directory}/data",
            "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid", "--containerd", str(self.containerd.socket),
            "--storage-driver", "vfs", "--exec-opt", f"native.cgroupdriver={CGROUP_DRIVER}",
            "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", *options]
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        self._process = self._running.enter_context(daemon(self._line, self.directory, self._socket))

    def stop(self) -> None:
        self._running.close()

    def kill(self) -> None:
        """As a crash. What it has written to say that it runs would keep another one from doing so."""
        self._process.kill()
        self.stop()
        (self.directory / "pid").unlink()

    def with_runtime(self, name: str) -> Engine:
        """The client whose `run` is by one of the daemon's runtimes, without a network."""
        return Engine(self.command, {}, ["--runtime", name, NETWORK])

    def runtime_root(self) -> Path:
        """What each runtime's command is given as --root."""
        return self.directory / "exec/runtime-runc" / NAMESPACE

    def left_of_containers(self) -> list[str]:
        """What there is on the host if there is a container, with either runtime; shims end a moment after theirs."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while (shims := self.containerd.shims()) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [f"process {pid}" for pid in shims]
        left += [f"state {path}" for path in self.runtime_root().glob("[!.]*")]
        cgroups = Path("/sys/fs/cgroup")
        left += [f"cgroup {path}" for pattern in ("docker/*/", "*/docker/*/", "*/docker-*.scope/") for path in cgroups.glob(pattern)]
        # the daemon keeps its own, and the host's network
        places = (f" {self.directory}/{place}" for place in ("data/containers/", "data/vfs/", "state/io.containerd.runtime"))
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return left + [f"mount {line}" for line in mounts if any(place in line for place in places)]

    def state(self, container: str, member: str) -> Any:
        """A member of `State` in what the daemon tells of a container."""
        return json.loads(self.succeed("inspect", container))[0]["State"][member]

    def await_state(self, container: str, member: str, value: object) -> None:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while (found := self.state(container, member)) != value:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def events(self, container: str) -> list[str]:
        """Of a container that was so named, each with what says how it came out: `exec_die 3`."""
        lines = self.succeed("events", "--since", "0", "--until", f"{time.time():.9f}", "--filter", "type=container", "--format", "{{json .}}")
        found = []
        for event in map(json.loads, lines.splitlines()):
            told = event["Actor"]["Attributes"]
            if told["name"] == container:
                found.append(" ".join([event["Action"], *(told[name] for name in ("signal", "exitCode") if name in told)]))
        return found


@contextlib.contextmanager
def running(*options: str, configuration: str = "{}") -> Iterator[Docker]:
    """A daemon that has the image `box`; of it nothing is left in the end, whatever happens."""
    require("docker", "dockerd", "containerd", "runc", "script", "iptables")
    directory = Path(tempfile.mkdtemp(prefix="docker-"))
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, directory)
        held.callback(unmount_below, directory)
        held.callback(remove_cgroups, "docker")
        held.enter_context(leaving_no_files("/etc/docker", "/run/containerd", "/run/docker", "/run/runc", "/var/lib/docker"))
        docker = Docker(directory, list(options), configuration)
        held.callback(docker.containerd.stop)
        docker.containerd.start()
        held.callback(docker.stop)
        docker.start()
        import_image(docker, directory)
        held.callback(kill_containers, docker)
        yield docker
        assert docker.succeed("ps", "-aq") == ""


def kill_containers(docker: Docker) -> None:
    """Those that a daemon with live-restore would leave, if its tests have."""
    if ids := docker("ps", "-aq").out.split():
        docker("rm", "-f", *ids)
