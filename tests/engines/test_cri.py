"""Pods under containerd's plugin for Kubernetes, with this runtime and with runc as handlers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from cri_api import EXITED, NODE, NOT_READY, POD, READY, RUNNING, CallError
from documented import documented
from engine import PYRUNTIME
from journey import SERVICE, limits_of
from kubelet import container_of, until
from node import RECORDS, Node, fields_of

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("nothing_left")]
SUBNET = "203.0.113."


def read_links(*names: str) -> str:
    """A script that tells which namespaces it is in."""
    return "; ".join(f"readlink /proc/self/ns/{name}" for name in names)


class TestPods:
    def test_version(self, node: Node) -> None:
        version = node.cri("Version")
        assert (version.runtime_name, version.runtime_api_version) == ("containerd", "v1")

    def test_network(self, node: Node, handler: str) -> None:
        """Two pods see each other; a container is in its pod's network and has its name."""
        first, second = (node.kubelet.run_pod(handler, POD) for _ in range(2))
        status = first.status()
        assert (status.state, status.runtime_handler, status.network.ip[:len(SUBNET)]) == (READY, handler, SUBNET)
        assert second.status().network.ip != status.network.ip
        ended, output = second.finish("sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf; ip -o address show eth0; "
                                      f"ping -c 1 -W 10 {status.network.ip}")
        assert ended.exit_code == 0, output
        name = second.config["hostname"]
        assert output[:3] == [name, name, "nameserver 203.0.113.1"]
        assert f"{second.status().network.ip}/24" in output[3]
        for pod in (first, second):
            pod.stop()
            assert pod.status().state == NOT_READY
            pod.remove()
            with pytest.raises(CallError, match="NOT_FOUND"):
                pod.status()

    def test_of_the_host(self, node: Node, handler: str) -> None:
        pod = node.kubelet.run_pod(handler, namespaces={"pid": NODE, "ipc": NODE})
        names = ("net", "pid", "ipc", "uts")
        security = {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}
        _, output = pod.finish("sh", "-c", read_links(*names), security=security)
        assert output == [os.readlink(f"/proc/self/ns/{name}") for name in names]
        pod.remove()

    def test_containers_share_namespaces(self, node: Node, handler: str) -> None:
        """Also that of process ids, if the pod says so: the sandbox's process is 1 in it."""
        shared = {"namespace_options": {"network": POD, "pid": POD, "ipc": POD}}
        pod = node.kubelet.run_pod(handler, POD, namespaces={"pid": POD})
        first = pod.run("sh", "-c", "echo text >/dev/shm/file; ip link add dummy0 type dummy; echo made; sleep 1000",
                        security={**shared, "capabilities": {"add_capabilities": ["NET_ADMIN"]}})
        pod.await_output(first, "made")
        names = ("net", "pid", "ipc", "uts", "mnt")
        _, output = pod.finish("sh", "-c", f"{read_links(*names)}; cat /dev/shm/file; ps -o args", security=shared)
        seen = [os.readlink(f"/proc/{pod.pid(first)}/ns/{name}") for name in names]
        assert output[:4] == seen[:4] and output[4] != seen[4] and output[5] == "text", output
        assert "/bin/sleep 1000000" in output[7] and any("sleep 1000" in line for line in output[8:]), output
        assert seen[0] == os.readlink(f"/proc/{pod.pid(pod.id)}/ns/net") != os.readlink("/proc/self/ns/net")
        pod.remove()

    def test_killed_sandbox_is_seen(self, node: Node, handler: str) -> None:
        pod = node.kubelet.run_pod(handler)
        os.kill(int(pod.pid(pod.id)), 9)
        until(lambda: pod.status().state == NOT_READY, "the sandbox is not ready")
        pod.remove()

    def test_sysctls(self, node: Node, handler: str) -> None:
        sysctls = {"net.ipv4.ip_unprivileged_port_start": "100", "kernel.shm_rmid_forced": "1"}
        pod = node.kubelet.run_pod(handler, POD, linux={"sysctls": sysctls})
        _, output = pod.finish("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced")
        assert output == ["100", "1"]
        pod.remove()

    def test_documented_pod(self, node: Node, handler: str) -> None:
        """As the document's RuntimeClass says, if its handler is the one that is tested."""
        manifest = yaml.safe_load(documented("pod.yaml"))
        runtime_class = yaml.safe_load(documented("runtimeclass.yaml"))
        assert (manifest["spec"]["runtimeClassName"], runtime_class["handler"]) == (runtime_class["metadata"]["name"], "pyruntime")
        container = container_of(documented("pod.yaml"))
        pod = node.kubelet.run_pod(handler, POD)
        id = pod.run(*container.pop("command"), **container)
        pod.await_output(id, f"hello from {pod.config['hostname']}")
        limits = limits_of(pod.pid(id), "memory", "quota", "period")
        assert limits == {"memory": 64 << 20, "quota": 50000, "period": 100000}
        process = fields_of(pod.execute(id, "cat", "/proc/1/status").stdout.decode().splitlines())
        assert (process["Uid"].split(), process["CapBnd"], process["NoNewPrivs"], process["Seccomp"]) == (["1000"] * 4, "0" * 16, "1", "2")
        assert b"Read-only" in pod.execute(id, "touch", "/new").stderr
        if handler == "pyruntime":
            listed = subprocess.run([PYRUNTIME, "--root", str(RECORDS), "list", "--quiet"], check=True, capture_output=True, text=True).stdout
            assert {id, pod.id} <= set(listed.split())
        pod.remove()

    def test_unknown_handler(self, node: Node, handler: str) -> None:
        with pytest.raises(CallError, match='no runtime for "crictl" is configured'):
            node.kubelet.run_pod("crictl")

    def test_containerd_restarts(self, node: Node, handler: str) -> None:
        """Containers go on, and are its own afterwards."""
        pod = node.kubelet.run_pod(handler, POD)
        id = pod.run("sh", "-c", SERVICE)
        pod.await_output(id, "started")
        pids = pod.pid(id), pod.pid(pod.id)
        node.containerd.stop()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        node.containerd.start()
        node.await_ready()
        assert (pod.status().state, pod.container_status(id).state, pod.pid(id), pod.pid(pod.id)) == (READY, RUNNING, *pids)
        assert pod.execute(id, "echo", "here").stdout == b"here\n"
        node.cri("StopContainer", container_id=id, timeout=20)
        status = pod.container_status(id)
        assert (status.state, status.exit_code, pod.output(id)) == (EXITED, 9, ["started", "told to stop"])
        pod.remove()
