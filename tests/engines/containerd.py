"""containerd with directories of its own."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine import COMMAND_TIMEOUT_S, Engine, daemon, leaving_no_files, require, unmount_below
from image import make_tree, pack, write_layout

CONFIGURATION = """
version = 2
disabled_plugins = {disabled}
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[timeouts]
  # by its default of 5s a slow machine does not remove the containers of a shim that was killed, whatever their runtime
  "io.containerd.timeout.shim.cleanup" = "60s"
"""
BOX, PAUSE = "docker.io/library/busybox:latest", "docker.io/library/pause:latest"
# an image that a pod's first process is of: it waits until it is killed
IMAGES = {BOX: {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, PAUSE: {"Entrypoint": ["/bin/sleep", "1000000"]}}


class Containerd:
    """A daemon. Its shims, and with them the containers, go on when it ends."""

    def __init__(self, directory: Path, configuration: str = "", disabled: Sequence[str] = ()) -> None:
        self.directory = directory
        self.socket = directory / "containerd.sock"
        self._file = directory / "containerd.toml"
        self._file.write_text(CONFIGURATION.format(directory=directory, disabled=list(disabled)) + configuration)
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        self._process = self._running.enter_context(daemon(["containerd", "--config", str(self._file)], self.directory, self.socket))

    def stop(self) -> None:
        self._running.close()

    def kill(self) -> None:
        """As a crash: nothing is told to anybody."""
        self._process.kill()
        self.stop()

    def client(self, namespace: str, run: list[str]) -> Engine:
        """ctr, for a namespace of containerd's; see Engine."""
        return Engine(["ctr", "--address", str(self.socket), "--namespace", namespace], {}, run)

    def import_images(self, namespace: str) -> None:
        archive = self.directory / "images.tar"
        write_layout(archive, pack(make_tree(self.directory / "rootfs")), IMAGES)
        self.client(namespace, []).succeed("images", "import", str(archive))
        archive.unlink()
        shutil.rmtree(self.directory / "rootfs")

    def shims(self) -> list[int]:
        """The pids of its shims, which say in their arguments whose they are."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if b"containerd-shim" in arguments[0] and os.fsencode(self.socket) in arguments:
                    found.append(int(entry.name))
        return found


def end(pid: int) -> None:
    """Kill a process, as a crash, and wait until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], COMMAND_TIMEOUT_S)[0]
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def running(configuration: str = "", disabled: Sequence[str] = ()) -> Iterator[Containerd]:
    """A containerd that runs, and of which nothing is left in the end, whatever happens; that nothing was is for the tests to see.

    configuration   besides its directories; {directory} is where they are
    disabled        plugins
    """
    require("containerd", "containerd-shim-runc-v2", "ctr", "runc", "script")
    directory = Path(tempfile.mkdtemp(prefix="containerd-"))
    # shims have their sockets below the first
    with leaving_no_files("/run/containerd", "/run/containerd/pyruntime", "/run/runc", "/var/lib/cni"):
        containerd = Containerd(directory, configuration.replace("{directory}", str(directory)), disabled)
        try:
            mount_hierarchies(directory)
            containerd.start()
            yield containerd
        finally:
            containerd.stop()
            for pid in containerd.shims():
                os.kill(pid, signal.SIGKILL)
            unmount_below(directory)
            shutil.rmtree(directory)


def mount_hierarchies(directory: Path) -> None:
    """containerd finds a process's cgroups only if each hierarchy of v1 is mounted somewhere; the kernel may keep one that is not any more."""
    mounted = [line.split(" - cgroup ")[1].split(",") for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup " in line]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        controllers = line.split(":")[1]
        if controllers and not any(controllers.split(",")[0] in names for names in mounted):
            point = directory / "hierarchies" / controllers
            point.mkdir(parents=True)
            subprocess.run(["mount", "-t", "cgroup", "-o", controllers, "cgroup", str(point)], check=True)
