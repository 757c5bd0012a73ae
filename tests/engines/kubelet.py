"""What a kubelet does with a node's containerd, pod by pod."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from containerd import BOX
from cri_api import EXITED, NODE, POD, RUNTIME_DEFAULT, UNCONFINED, CallError, Cri
from engine import CGROUP_DRIVER, until

# what Kubernetes hides of /proc in a container unless told otherwise
MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
          "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
CGROUP_PARENT = "/pods.slice" if CGROUP_DRIVER == "systemd" else "/pods"
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "m": 1e-3}
_SECCOMP = {"RuntimeDefault": RUNTIME_DEFAULT, "Unconfined": UNCONFINED}


class Pod:
    """A sandbox, and the containers in it."""

    def __init__(self, cri: Cri, config: Mapping[str, Any], handler: str) -> None:
        self.cri = cri
        self.config = config
        self.logs = Path(config["log_directory"])
        self.logs.mkdir()
        try:
            self.id: str = cri("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id
        except CallError:
            shutil.rmtree(self.logs)
            raise
        self._created = 0

    def status(self) -> Any:
        return self.cri("PodSandboxStatus", pod_sandbox_id=self.id).status

    def create(self, *command: str, security: Mapping[str, Any] | None = None, resources: Mapping[str, Any] | None = None,
               mounts: Sequence[Mapping[str, Any]] = (), **config: Any) -> str:
        """The id of a new container, made as for a pod that says nothing else."""
        self._created += 1
        name = f"container{self._created}"
        message = self.logs / f"{name}.message"
        message.touch()
        config = {
            "metadata": {"name": name}, "image": {"image": BOX}, "command": command, "log_path": f"{name}.log",
            "mounts": [*mounts, {"container_path": "/dev/termination-log", "host_path": str(message)}],
            "linux": {"resources": {"cpu_shares": 2, "oom_score_adj": 1000, **(resources or {})},
                      "security_context": {"namespace_options": {"pid": 1}, "masked_paths": MASKED, "readonly_paths": READ_ONLY,
                                           **(security or {})}}, **config}
        return str(self.cri("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config).container_id)

    def run(self, *command: str, **config: Any) -> str:
        id = self.create(*command, **config)
        self.cri("StartContainer", container_id=id)
        return id

    def finish(self, *command: str, **config: Any) -> tuple[Any, list[str]]:
        """The status of a container that has ended, and its output."""
        id = self.run(*command, **config)
        status = self.await_exit(id)
        output = self.output(id)
        self.cri("RemoveContainer", container_id=id)
        return status, output

    def container_status(self, id: str) -> Any:
        return self.cri("ContainerStatus", container_id=id).status

    def pid(self, id: str) -> str:
        """On the host, of a container or of the sandbox."""
        if id == self.id:
            info = self.cri("PodSandboxStatus", pod_sandbox_id=id, verbose=True).info
        else:
            info = self.cri("ContainerStatus", container_id=id, verbose=True).info
        return str(json.loads(info["info"])["pid"])

    def await_exit(self, id: str) -> Any:
        def ended() -> Any:
            status = self.container_status(id)
            return status if status.state == EXITED else None
        return until(ended, f"container {id} ends")

    def output(self, id: str) -> list[str]:
        """Its lines so far, without the times and the names of the streams that the log has."""
        log = Path(self.container_status(id).log_path)
        return [line.split(" ", 3)[3] for line in log.read_text().splitlines()]

    def await_output(self, id: str, text: str) -> None:
        until(lambda: text in "\n".join(self.output(id)), f"output of {id}: {text}")

    def execute(self, id: str, *command: str, timeout_s: int = 0) -> Any:
        return self.cri("ExecSync", container_id=id, cmd=command, timeout=timeout_s)

    def stop(self) -> None:
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self) -> None:
        """With the containers in it, as a kubelet does."""
        self.stop()
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)
        shutil.rmtree(self.logs)


class Kubelet:
    def __init__(self, cri: Cri, directory: Path) -> None:
        """directory   of the pods' logs"""
        self.cri = cri
        self.directory = directory
        self._run = 0

    def run_pod(self, handler: str, network: int = NODE, *, linux: Mapping[str, Any] | None = None, **security: Any) -> Pod:
        """security   members of its security context"""
        self._run += 1
        name = f"pod{self._run}"
        options = {"network": network, "pid": 1, **security.pop("namespaces", {})}
        config = {"metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default"}, "hostname": name if network == POD else "",
                  "log_directory": str(self.directory / name), "dns_config": {"servers": ["203.0.113.1"]},
                  "linux": {"cgroup_parent": CGROUP_PARENT, "security_context": {"namespace_options": options, **security}, **(linux or {})}}
        return Pod(self.cri, config, handler)


def container_of(manifest: str) -> dict[str, Any]:
    """The arguments of Pod.create for the one container of a manifest."""
    container, = yaml.safe_load(manifest)["spec"]["containers"]
    wanted, most, context = container["resources"]["requests"], container["resources"]["limits"], container["securityContext"]
    security = {"run_as_user": {"value": context["runAsUser"]}, "run_as_group": {"value": context["runAsGroup"]},
                "readonly_rootfs": context["readOnlyRootFilesystem"], "no_new_privs": not context["allowPrivilegeEscalation"],
                "capabilities": {"drop_capabilities": context["capabilities"]["drop"]},
                "seccomp": {"profile_type": _SECCOMP[context["seccompProfile"]["type"]]}}
    resources = {"cpu_shares": int(_quantity(wanted["cpu"]) * 1024), "cpu_period": 100000, "cpu_quota": int(_quantity(most["cpu"]) * 100000),
                 "memory_limit_in_bytes": int(_quantity(most["memory"]))}
    return {"command": container["command"], "image": {"image": container["image"]}, "security": security, "resources": resources,
            "envs": [{"key": variable["name"], "value": variable["value"].encode()} for variable in container["env"]]}


def _quantity(text: str) -> float:
    number = text.rstrip("KMGim")
    return float(number) * _UNITS.get(text.removeprefix(number), 1)
