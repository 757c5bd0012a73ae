"""Docker and containerd, with this runtime and with runc."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerd import Containerd
from documented import documented
from engine import CGROUP_DRIVER, Engine, daemon, import_image, leaving_no_files, remove_cgroups, require, unmount_below
from journey import Journey

pytestmark = pytest.mark.privileged
# one of its own, which Docker sets up by a hook
NETWORK = "--network=none"


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    """A client of a daemon of its own, which has the image."""
    require("docker", "dockerd", "containerd", "runc", "script")
    directory = Path(tempfile.mkdtemp(prefix="docker-"))
    (directory / "daemon.json").write_text(documented("/etc/docker/daemon.json"))
    containerd = Containerd(directory, disabled=["io.containerd.grpc.v1.cri"])
    socket = directory / "docker.sock"
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, directory)
        held.callback(unmount_below, directory)
        held.callback(remove_cgroups, "docker")
        held.enter_context(leaving_no_files("/etc/docker", "/run/containerd", "/run/docker", "/run/runc", "/var/lib/docker"))
        held.callback(containerd.stop)
        containerd.start()
        held.enter_context(daemon(
            ["dockerd", "--config-file", f"{directory}/daemon.json", "--host", f"unix://{socket}", "--data-root", f"{directory}/data",
             "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid", "--containerd", str(containerd.socket),
             "--storage-driver", "vfs", "--exec-opt", f"native.cgroupdriver={CGROUP_DRIVER}",
             "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"], directory, socket))
        engine = Engine(["docker", "--config", f"{directory}/client", "--host", f"unix://{socket}"], {}, [])
        import_image(engine, directory)
        yield engine
        assert engine.succeed("ps", "-aq") == ""


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Engine) -> Engine:
    return Engine(docker.command, {}, ["--runtime", request.param, NETWORK])


class TestDocker(Journey):
    """Debian's."""

    def test_networks(self, docker: Engine, engine: Engine) -> None:
        """One of Docker's, which it connects by a hook; another container's, which is joined; and the host's."""
        engine = Engine(docker.command, {}, [option for option in engine.run_options if option != NETWORK])
        docker.succeed("network", "create", "--subnet", "198.51.100.0/24", "between")
        try:
            engine.run("-d", "--network=between", "--name", "first", "box", "sleep", "1000")
            address = docker.succeed("inspect", "-f", "{{.NetworkSettings.Networks.between.IPAddress}}", "first")
            assert address.startswith("198.51.100.")
            ended = engine.run("--rm", "--network=between", "box", "busybox", "ping", "-c", "1", "-W", "10", address)
            assert ended.code == 0, ended
            ended = engine.run("--rm", "--network=container:first", "box", "busybox", "ip", "-o", "address")
            assert f"{address}/24" in ended.out, ended
            ended = engine.run("--rm", "--network=host", "box", "readlink", "/proc/self/ns/net")
            assert ended.out == os.readlink("/proc/self/ns/net"), ended
        finally:
            docker("rm", "-f", "first")
            docker.succeed("network", "rm", "between")

    def test_init(self, engine: Engine) -> None:
        ended = engine.run("--rm", "--init", "box", "sh", "-c", "head -c 17 /proc/1/cmdline")
        assert ended.out == "/sbin/docker-init", ended
