"""A node of Kubernetes: containerd with its plugin, by the configuration of docs/kubernetes.md, and a kubelet's side of it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containerd import PAUSE, Containerd, running
from cri_api import CallError, Cri
from documented import documented
from engine import CGROUP_DRIVER, COMMAND_TIMEOUT_S, remove_cgroups
from kubelet import CGROUP_PARENT, Kubelet, Pod, until

IS_SYSTEMD = str(CGROUP_DRIVER == "systemd").lower()
# the sandboxes' image, the tests' places, and what this machine needs
CONFIGURATION = f"""
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{{directory}}/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    Root = "{{directory}}/runc"
    SystemdCgroup = {IS_SYSTEMD}
"""
HANDLER = documented("/etc/containerd/config.toml", {"SystemdCgroup = true": f"SystemdCgroup = {IS_SYSTEMD}"})
NETWORK = documented("/etc/cni/net.d/10-pods.conflist")
BRIDGE = "pods0"
RECORDS = Path("/run/containerd/pyruntime/k8s.io")


@dataclasses.dataclass
class Node:
    containerd: Containerd
    cri: Cri
    kubelet: Kubelet

    def await_ready(self) -> None:
        def is_ready() -> bool:
            try:
                conditions = self.cri("Status").status.conditions
                images = [tag for image in self.cri("ListImages").images for tag in image.repo_tags]
            except CallError:  # while it reads what there is
                return False
            return {condition.type for condition in conditions if condition.status} == {"RuntimeReady", "NetworkReady"} and PAUSE in images
        until(is_ready, "the plugin is ready")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running(CONFIGURATION + HANDLER) as containerd:
        (containerd.directory / "net.d").mkdir(exist_ok=True)  # containerd makes it too
        (containerd.directory / "net.d/10-pods.conflist").write_text(NETWORK)
        (containerd.directory / "logs").mkdir()
        containerd.import_images("k8s.io")
        cri = Cri(containerd.socket, COMMAND_TIMEOUT_S)
        try:
            node = Node(containerd, cri, Kubelet(cri, containerd.directory / "logs"))
            node.await_ready()
            yield node
        finally:
            cri.close()
            subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
    remove_cgroups(CGROUP_PARENT.strip("/"))


@pytest.fixture(params=["pyruntime", "runc"], scope="module")
def handler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pod(node: Node, handler: str) -> Iterator[Pod]:
    """One in the host's network, for tests of containers."""
    pod = node.kubelet.run_pod(handler)
    yield pod
    pod.remove()


@pytest.fixture
def nothing_left(node: Node, handler: str, pod: Pod) -> Iterator[None]:
    """Of a test's containers and pods."""
    yield
    for container in node.cri("ListContainers").containers:
        node.cri("RemoveContainer", container_id=container.id)
    for sandbox in node.cri("ListPodSandbox").items:
        if sandbox.id != pod.id:
            node.cri("StopPodSandbox", pod_sandbox_id=sandbox.id)
            node.cri("RemovePodSandbox", pod_sandbox_id=sandbox.id)
    # a container's end is told before its task is deleted
    until(lambda: records(node, handler) == {pod.id} and cgroups() == {pod.id}, f"{records(node, handler)}, {cgroups()}: only {pod.id} is left")
    assert not list((node.containerd.directory / "state/io.containerd.grpc.v1.cri/netns").glob("*"))


def records(node: Node, handler: str) -> set[str]:
    root = RECORDS if handler == "pyruntime" else node.containerd.directory / "runc/k8s.io"
    return {path.name for path in root.glob("[!.]*")}


def cgroups() -> set[str]:
    """The ids that cgroups of pods are named for."""
    parent = CGROUP_PARENT.strip("/")
    paths = [path for pattern in (f"{parent}/*/", f"*/{parent}/*/") for path in Path("/sys/fs/cgroup").glob(pattern)]
    return {re.sub(r"^cri-containerd-(.*)\.scope$", r"\1", path.name) for path in paths}


def fields_of(lines: list[str]) -> dict[str, str]:
    """Of a file like /proc/PID/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
