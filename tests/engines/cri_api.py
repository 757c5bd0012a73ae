"""The Container Runtime Interface, as far as the tests use it: a kubelet's side of it.

Names and numbers are those of Kubernetes' runtime.v1 (cri-api 0.25, which containerd 1.6 has); protobuf makes the messages at run
time. gRPC has threads and descriptors that stay, which tests in this process would count, so the calls are made by a process of
its own (grpc_calls.py).
"""

from __future__ import annotations

import base64
import functools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "runtime.v1"
# NamespaceMode
POD, CONTAINER, NODE, TARGET = 0, 1, 2, 3
# ContainerState
CREATED, RUNNING, EXITED, UNKNOWN = 0, 1, 2, 3
# PodSandboxState
READY, NOT_READY = 0, 1
# SecurityProfile.ProfileType
RUNTIME_DEFAULT, UNCONFINED = 0, 1

_FIELD = descriptor_pb2.FieldDescriptorProto
# enumerations are varints, as int32 is
_TYPES = {"string": _FIELD.TYPE_STRING, "bytes": _FIELD.TYPE_BYTES, "bool": _FIELD.TYPE_BOOL, "int32": _FIELD.TYPE_INT32,
          "int64": _FIELD.TYPE_INT64, "uint32": _FIELD.TYPE_UINT32, "uint64": _FIELD.TYPE_UINT64, "enum": _FIELD.TYPE_INT32}
# field number type; * is repeated, `map` is of strings to strings
_MESSAGES = {
    "Int64Value": "value 1 int64",
    "UInt64Value": "value 1 uint64",
    "KeyValue": "key 1 string, value 2 string",
    "ImageSpec": "image 1 string",
    "NamespaceOption": "network 1 enum, pid 2 enum, ipc 3 enum, target_id 4 string",
    "SecurityProfile": "profile_type 1 enum, localhost_ref 2 string",
    "LinuxContainerResources":
        "cpu_period 1 int64, cpu_quota 2 int64, cpu_shares 3 int64, memory_limit_in_bytes 4 int64, oom_score_adj 5 int64, "
        "cpuset_cpus 6 string, cpuset_mems 7 string, unified 9 map, memory_swap_limit_in_bytes 10 int64",

    "PodSandboxMetadata": "name 1 string, uid 2 string, namespace 3 string, attempt 4 uint32",
    "LinuxSandboxSecurityContext":
        "namespace_options 1 NamespaceOption, run_as_user 3 Int64Value, readonly_rootfs 4 bool, supplemental_groups 5 *int64, "
        "privileged 6 bool, run_as_group 8 Int64Value, seccomp 9 SecurityProfile",
    "LinuxPodSandboxConfig": "cgroup_parent 1 string, security_context 2 LinuxSandboxSecurityContext, sysctls 3 map",
    "DNSConfig": "servers 1 *string, searches 2 *string, options 3 *string",
    "PodSandboxConfig":
        "metadata 1 PodSandboxMetadata, hostname 2 string, log_directory 3 string, dns_config 4 DNSConfig, labels 6 map, "
        "annotations 7 map, linux 8 LinuxPodSandboxConfig",
    "PodSandboxNetworkStatus": "ip 1 string",
    "PodSandboxStatus":
        "id 1 string, metadata 2 PodSandboxMetadata, state 3 enum, created_at 4 int64, network 5 PodSandboxNetworkStatus, "
        "labels 7 map, annotations 8 map, runtime_handler 9 string",
    "PodSandbox": "id 1 string, state 3 enum, runtime_handler 7 string",

    "Mount": "container_path 1 string, host_path 2 string, readonly 3 bool, selinux_relabel 4 bool, propagation 5 enum",
    "Device": "container_path 1 string, host_path 2 string, permissions 3 string",
    "Capability": "add_capabilities 1 *string, drop_capabilities 2 *string",
    "LinuxContainerSecurityContext":
        "capabilities 1 Capability, privileged 2 bool, namespace_options 3 NamespaceOption, run_as_user 5 Int64Value, "
        "readonly_rootfs 7 bool, supplemental_groups 8 *int64, no_new_privs 11 bool, run_as_group 12 Int64Value, "
        "masked_paths 13 *string, readonly_paths 14 *string, seccomp 15 SecurityProfile, apparmor 16 SecurityProfile",
    "LinuxContainerConfig": "resources 1 LinuxContainerResources, security_context 2 LinuxContainerSecurityContext",
    "ContainerMetadata": "name 1 string, attempt 2 uint32",
    "ContainerConfig":
        "metadata 1 ContainerMetadata, image 2 ImageSpec, command 3 *string, args 4 *string, working_dir 5 string, envs 6 *KeyValue, "
        "mounts 7 *Mount, devices 8 *Device, labels 9 map, annotations 10 map, log_path 11 string, stdin 12 bool, stdin_once 13 bool, "
        "tty 14 bool, linux 15 LinuxContainerConfig",
    "ContainerStatus":
        "id 1 string, metadata 2 ContainerMetadata, state 3 enum, created_at 4 int64, started_at 5 int64, finished_at 6 int64, "
        "exit_code 7 int32, image_ref 9 string, reason 10 string, message 11 string, log_path 15 string",
    "Container": "id 1 string, pod_sandbox_id 2 string, state 6 enum",

    "CpuUsage": "timestamp 1 int64, usage_core_nano_seconds 2 UInt64Value",
    "MemoryUsage": "timestamp 1 int64, working_set_bytes 2 UInt64Value, available_bytes 3 UInt64Value, usage_bytes 4 UInt64Value",
    "ContainerAttributes": "id 1 string",
    "ContainerStats": "attributes 1 ContainerAttributes, cpu 2 CpuUsage, memory 3 MemoryUsage",
    "LinuxPodSandboxStats": "cpu 1 CpuUsage, memory 2 MemoryUsage, containers 5 *ContainerStats",
    "PodSandboxStats": "linux 2 LinuxPodSandboxStats",

    "RuntimeCondition": "type 1 string, status 2 bool, reason 3 string, message 4 string",
    "RuntimeStatus": "conditions 1 *RuntimeCondition",
    "Image": "id 1 string, repo_tags 2 *string",

    "VersionRequest": "version 1 string",
    "VersionResponse": "version 1 string, runtime_name 2 string, runtime_version 3 string, runtime_api_version 4 string",
    "StatusRequest": "verbose 1 bool",
    "StatusResponse": "status 1 RuntimeStatus",
    "RunPodSandboxRequest": "config 1 PodSandboxConfig, runtime_handler 2 string",
    "RunPodSandboxResponse": "pod_sandbox_id 1 string",
    "StopPodSandboxRequest": "pod_sandbox_id 1 string",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id 1 string",
    "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "pod_sandbox_id 1 string, verbose 2 bool",
    "PodSandboxStatusResponse": "status 1 PodSandboxStatus, info 2 map",
    "ListPodSandboxRequest": "",
    "ListPodSandboxResponse": "items 1 *PodSandbox",
    "PodSandboxStatsRequest": "pod_sandbox_id 1 string",
    "PodSandboxStatsResponse": "stats 1 PodSandboxStats",
    "CreateContainerRequest": "pod_sandbox_id 1 string, config 2 ContainerConfig, sandbox_config 3 PodSandboxConfig",
    "CreateContainerResponse": "container_id 1 string",
    "StartContainerRequest": "container_id 1 string",
    "StartContainerResponse": "",
    "StopContainerRequest": "container_id 1 string, timeout 2 int64",
    "StopContainerResponse": "",
    "RemoveContainerRequest": "container_id 1 string",
    "RemoveContainerResponse": "",
    "ListContainersRequest": "",
    "ListContainersResponse": "containers 1 *Container",
    "ContainerStatusRequest": "container_id 1 string, verbose 2 bool",
    "ContainerStatusResponse": "status 1 ContainerStatus, info 2 map",
    "UpdateContainerResourcesRequest": "container_id 1 string, linux 2 LinuxContainerResources",
    "UpdateContainerResourcesResponse": "",
    "ExecSyncRequest": "container_id 1 string, cmd 2 *string, timeout 3 int64",
    "ExecSyncResponse": "stdout 1 bytes, stderr 2 bytes, exit_code 3 int32",
    "ExecRequest": "container_id 1 string, cmd 2 *string, tty 3 bool, stdin 4 bool, stdout 5 bool, stderr 6 bool",
    "ExecResponse": "url 1 string",
    "AttachRequest": "container_id 1 string, stdin 2 bool, tty 3 bool, stdout 4 bool, stderr 5 bool",
    "AttachResponse": "url 1 string",
    "ContainerStatsRequest": "container_id 1 string",
    "ContainerStatsResponse": "stats 1 ContainerStats",
    "ListImagesRequest": "",
    "ListImagesResponse": "images 1 *Image",
}


@functools.cache
def _classes() -> Mapping[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in (text.split() for text in fields.split(",") if text):
            _add_field(message, field, int(number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES}


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    made = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind.startswith("*") or kind == "map":
        made.label = _FIELD.LABEL_REPEATED
    kind = kind.removeprefix("*")
    if kind == "map":
        entry_name = f"{name.title().replace('_', '')}Entry"  # the name that protobuf demands
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        for number, part in enumerate(("key", "value"), 1):
            entry.field.add(name=part, number=number, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
        kind = f"{message.name}.{entry_name}"
    if kind in _TYPES:
        made.type = _TYPES[kind]
    else:
        made.type, made.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


class CallError(Exception):
    """An answer that is an error.

    code   the name of gRPC's status code
    """

    def __init__(self, method: str, code: str, details: str) -> None:
        super().__init__(f"{method}: {code}: {details}")
        self.code = code
        self.details = details


class Cri:
    """A client: `cri("StartContainer", container_id=id)`. Messages in requests are mappings.

    timeout_s   for one call
    """

    def __init__(self, socket: Path, timeout_s: float) -> None:
        command = [sys.executable, str(Path(__file__).with_name("grpc_calls.py")), str(socket), str(timeout_s)]
        self._calls = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self, method: str, **fields: Any) -> Any:
        """The response. Raises CallError."""
        service = "ImageService" if "Image" in method else "RuntimeService"
        request = _classes()[f"{method}Request"](**fields).SerializeToString()
        assert self._calls.stdin is not None and self._calls.stdout is not None
        self._calls.stdin.write(f"/{PACKAGE}.{service}/{method} {_encode(request)}\n")
        code, answer = self._calls.stdout.readline().removesuffix("\n").split(" ")
        if code != "OK":
            raise CallError(method, code, base64.b64decode(answer).decode())
        return _classes()[f"{method}Response"].FromString(base64.b64decode(answer))

    def close(self) -> None:
        self._calls.communicate()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
