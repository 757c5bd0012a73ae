"""Containers of pods under containerd's plugin for Kubernetes, with this runtime and with runc as handlers."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cri_api import CREATED, EXITED, RUNNING, RUNTIME_DEFAULT, UNCONFINED, CallError
from engine import CGROUP_DRIVER
from journey import SERVICE, limits_of
from kubelet import Pod, until
from node import Node, fields_of
from streaming import STDIN, Stream

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("nothing_left")]
# what a container has that says nothing of capabilities
USUAL_CAPABILITIES = 0xa80425fb


class TestContainers:
    def test_life(self, pod: Pod, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("text\n")
        mounts = [{"container_path": "/volume", "host_path": str(tmp_path), "readonly": True}]
        script = "cat /volume/file; echo $NAME $0; pwd; touch /volume/new || echo read-only; echo why >/dev/termination-log; exit 3"
        id = pod.create("sh", "-c", script, args=["zero"], envs=[{"key": "NAME", "value": b"value"}], working_dir="/tmp", mounts=mounts)
        status = pod.container_status(id)
        assert (status.state, status.started_at) == (CREATED, 0)
        pod.cri("StartContainer", container_id=id)
        status = pod.await_exit(id)
        assert (status.exit_code, status.reason) == (3, "Error")
        assert 0 < status.created_at <= status.started_at and status.finished_at > status.created_at
        assert [line for line in pod.output(id) if "touch:" not in line] == ["text", "value zero", "/tmp", "read-only"]
        assert (pod.logs / "container1.message").read_text() == "why\n"
        pod.cri("RemoveContainer", container_id=id)
        with pytest.raises(CallError, match="NOT_FOUND"):
            pod.container_status(id)

    def test_completed(self, pod: Pod) -> None:
        status, output = pod.finish("sh", "-c", "echo out; echo err >&2")
        assert (status.exit_code, status.reason, sorted(output)) == (0, "Completed", ["err", "out"])

    def test_killed_by_a_signal(self, pod: Pod) -> None:
        id = pod.run("sleep", "1000")
        os.kill(int(pod.pid(id)), 9)
        status = pod.await_exit(id)
        assert (status.exit_code, status.reason) == (137, "Error")

    @pytest.mark.parametrize("command", ["no-such-program", "/etc/not-executable"])
    def test_what_cannot_be_executed(self, pod: Pod, command: str) -> None:
        """The runtime's own words are what `kubectl describe` shows."""
        id = pod.create(command)
        with pytest.raises(CallError, match=command):
            pod.cri("StartContainer", container_id=id)
        status = pod.container_status(id)
        assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
        assert command in status.message

    def test_out_of_memory(self, pod: Pod) -> None:
        """Of a process of the container. The shim watches for it from when the start has returned."""
        script = ("until test -e /go; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=100M count=1; code=$?; "
                  "until test -e /end; do sleep 0.05; done; exit $code")
        id = pod.run("sh", "-c", script, resources={"memory_limit_in_bytes": 32 << 20})
        pod.execute(id, "touch", "/go")
        until(lambda: pod.container_status(id).reason == "OOMKilled", "the reason is OOMKilled")
        pod.execute(id, "touch", "/end")
        assert pod.await_exit(id).exit_code == 137
        assert pod.container_status(id).reason == "OOMKilled"

    def test_first_process_out_of_memory(self, pod: Pod) -> None:
        """systemd removes its cgroup at once, and with it what the shim would read, whichever runtime it is."""
        script = "until test -e /go; do sleep 0.05; done; exec dd if=/dev/zero of=/dev/null bs=100M count=1"
        id = pod.run("sh", "-c", script, resources={"memory_limit_in_bytes": 32 << 20})
        pod.execute(id, "touch", "/go")
        assert pod.await_exit(id).exit_code == 137
        if CGROUP_DRIVER != "systemd":
            until(lambda: pod.container_status(id).reason == "OOMKilled", "the reason is OOMKilled")

    def test_driver_and_limits(self, pod: Pod) -> None:
        """By the driver of the configuration; systemd then knows the limits."""
        resources = {"memory_limit_in_bytes": 64 << 20, "cpu_shares": 512, "cpu_quota": 20000, "cpu_period": 50000, "cpuset_cpus": "0"}
        id = pod.run("sleep", "1000", resources=resources)
        pid = pod.pid(id)
        names = ("memory", "shares", "quota", "period", "cpus")
        assert limits_of(pid, *names) == {"memory": 64 << 20, "shares": 512, "quota": 20000, "period": 50000, "cpus": "0"}
        cgroup = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].partition("::")[2]
        if CGROUP_DRIVER == "systemd":
            assert cgroup == f"/pods.slice/cri-containerd-{id}.scope"
            shown = subprocess.run(["systemctl", "show", "-pMemoryMax", "-pActiveState", Path(cgroup).name], check=True, capture_output=True,
                                   text=True)
            assert set(shown.stdout.split()) == {"MemoryMax=67108864", "ActiveState=active"}
        pod.cri("UpdateContainerResources", container_id=id, linux={"memory_limit_in_bytes": 80 << 20, "cpu_shares": 2048, "cpu_quota": 30000})
        assert limits_of(pid, *names) == {"memory": 80 << 20, "shares": 2048, "quota": 30000, "period": 50000, "cpus": "0"}
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"

    def test_stats(self, pod: Pod) -> None:
        id = pod.run("sh", "-c", "while :; do :; done", resources={"memory_limit_in_bytes": 64 << 20})

        def stats() -> Any:
            return pod.cri("ContainerStats", container_id=id).stats
        first = until(lambda: stats() if stats().cpu.usage_core_nano_seconds.value > 0 else None, "time is used")
        used = first.cpu.usage_core_nano_seconds.value
        later = until(lambda: stats() if stats().cpu.usage_core_nano_seconds.value > used else None, "more is")
        assert later.attributes.id == id
        assert 0 < later.memory.working_set_bytes.value < 64 << 20
        assert later.memory.available_bytes.value == (64 << 20) - later.memory.working_set_bytes.value
        whole = pod.cri("PodSandboxStats", pod_sandbox_id=pod.id).stats
        assert [container.attributes.id for container in whole.linux.containers] == [id]

    def test_two_streams_and_a_terminal(self, pod: Pod) -> None:
        _, output = pod.finish("sh", "-c", "tty; test -t 0 -a -t 1 -a -t 2 && echo terminal", tty=True, stdin=True)
        assert output == ["/dev/pts/0", "terminal"]

    def test_standard_input(self, pod: Pod) -> None:
        """Of who is attached: the plugin passes on his input first, and connects him to the output later."""
        id = pod.run("sh", "-c", "read line; sleep 1; echo $line; exit 4", stdin=True)
        stream = Stream(pod.cri("Attach", container_id=id, stdin=True, stdout=True).url)
        stream.send(STDIN, b"typed\n")
        stream.await_output(b"typed\n")
        stream.close()
        assert pod.await_exit(id).exit_code == 4
        assert pod.output(id) == ["typed"]


class TestSecurity:
    def test_user(self, pod: Pod) -> None:
        _, output = pod.finish("sh", "-c", "id -u; id -g; id -G; touch /new || echo refused", security={
            "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "supplemental_groups": [3000, 4000]})
        assert [line for line in output if "touch:" not in line] == ["1000", "2000", "2000 3000 4000", "refused"]

    def test_usual(self, pod: Pod) -> None:
        _, output = pod.finish("cat", "/proc/self/status")
        process = fields_of(output)
        assert [int(process[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [USUAL_CAPABILITIES] * 3 + [0]
        assert (process["Seccomp"], process["NoNewPrivs"]) == ("0", "0")

    def test_restricted(self, pod: Pod) -> None:
        _, output = pod.finish("cat", "/proc/self/status", security={
            "capabilities": {"add_capabilities": ["SYS_PTRACE"], "drop_capabilities": ["CHOWN", "KILL"]}, "no_new_privs": True,
            "seccomp": {"profile_type": RUNTIME_DEFAULT}})
        process = fields_of(output)
        assert int(process["CapEff"], 16) == USUAL_CAPABILITIES & ~(1 << 0 | 1 << 5) | 1 << 19
        assert (process["Seccomp"], process["NoNewPrivs"]) == ("2", "1")

    def test_filter_of_system_calls(self, pod: Pod) -> None:
        """mount is in the usual profile with CAP_SYS_ADMIN only, and unshare too."""
        admin = {"add_capabilities": ["SYS_ADMIN"]}
        for profile, capabilities, code in ((RUNTIME_DEFAULT, {}, 1), (RUNTIME_DEFAULT, admin, 0), (UNCONFINED, admin, 0)):
            status, output = pod.finish("mount", "-t", "tmpfs", "none", "/tmp", security={
                "seccomp": {"profile_type": profile}, "capabilities": capabilities, "apparmor": {"profile_type": UNCONFINED}})
            assert status.exit_code == code, output

    def test_files(self, pod: Pod) -> None:
        assert os.listdir("/sys/firmware") and Path("/proc/keys").read_bytes()
        script = ("exec 2>&1; touch /new; ls /sys/firmware | wc -l; wc -c </proc/keys; touch /proc/sys/kernel/shmmax; "
                  "echo 1 >/dev/shm/new && echo written")
        _, output = pod.finish("sh", "-c", script, security={"readonly_rootfs": True})
        assert output == ["touch: /new: Read-only file system", "0", "0", "touch: /proc/sys/kernel/shmmax: Read-only file system", "written"]

    def test_privileged(self, node: Node, handler: str) -> None:
        pod = node.kubelet.run_pod(handler, privileged=True)
        status, output = pod.finish("sh", "-c", "mount -t tmpfs none /tmp && test -c /dev/kmsg && grep CapEff /proc/self/status",
                                    security={"privileged": True})
        assert status.exit_code == 0, output
        assert int(output[0].split()[1], 16) == int(fields_of(Path("/proc/self/status").read_text().splitlines())["CapBnd"], 16)
        pod.remove()

    def test_device(self, pod: Pod) -> None:
        """The one that is listed, and no other."""
        script = "exec 2>&1; head -c 3 /dev/nothing | wc -c; busybox mknod /tmp/kmsg c 1 11; head -c 3 /tmp/kmsg"
        _, output = pod.finish("sh", "-c", script, devices=[{"container_path": "/dev/nothing", "host_path": "/dev/zero", "permissions": "r"}])
        assert output == ["3", "head: /tmp/kmsg: Operation not permitted"]


class TestExec:
    @pytest.fixture
    def id(self, pod: Pod) -> str:
        return pod.run("sleep", "1000", envs=[{"key": "NAME", "value": b"value"}], security={"run_as_user": {"value": 1000}})

    def test_exit_code_and_streams(self, pod: Pod, id: str) -> None:
        """As the container's user, with its environment."""
        ended = pod.execute(id, "sh", "-c", "id -u; echo $NAME; echo wrong >&2; exit 7")
        assert (ended.exit_code, ended.stdout, ended.stderr) == (7, b"1000\nvalue\n", b"wrong\n")
        assert pod.execute(id, "true").exit_code == 0

    def test_much_output(self, pod: Pod, id: str) -> None:
        assert len(pod.execute(id, "dd", "if=/dev/zero", "bs=1M", "count=2").stdout) == 2 << 20

    def test_missing_program(self, pod: Pod, id: str) -> None:
        with pytest.raises(CallError, match="no-such-program"):
            pod.execute(id, "no-such-program")

    def test_time_is_over(self, pod: Pod, id: str) -> None:
        """The process is killed, as for a probe that takes too long."""
        began = time.monotonic()
        with pytest.raises(CallError, match="timeout 1s exceeded") as error:
            pod.execute(id, "sleep", "500", timeout_s=1)
        assert error.value.code == "DEADLINE_EXCEEDED" and time.monotonic() - began >= 1
        assert b"sleep 500" not in pod.execute(id, "ps", "-o", "args").stdout
        assert pod.container_status(id).state == RUNNING

    def test_probes(self, pod: Pod, id: str) -> None:
        """Nothing of them adds up."""
        for _ in range(10):
            assert pod.execute(id, "true").exit_code == 0
        pid = pod.pid(id)
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
        assert len(pod.execute(id, "ps", "-o", "args").stdout.splitlines()) == 3

    def test_in_what_has_ended(self, pod: Pod) -> None:
        id = pod.run("true")
        pod.await_exit(id)
        with pytest.raises(CallError, match="CONTAINER_EXITED"):
            pod.execute(id, "true")

    def test_stream(self, pod: Pod, id: str) -> None:
        """As `kubectl exec -i`."""
        command = ["sh", "-c", "read line; echo $line; echo wrong >&2; exit 7"]
        stream = Stream(pod.cri("Exec", container_id=id, cmd=command, stdin=True, stdout=True, stderr=True).url)
        stream.send(STDIN, b"typed\n")
        assert stream.finish() == (b"typed\n", b"wrong\n", 7)

    def test_terminal(self, pod: Pod, id: str) -> None:
        """As `kubectl exec -it`: with a size that changes."""
        command = ["sh", "-c", "tty; while [ \"$(stty size)\" != '20 50' ]; do sleep 0.05; done; echo resized"]
        stream = Stream(pod.cri("Exec", container_id=id, cmd=command, stdin=True, stdout=True, tty=True).url)
        stream.await_output(b"/dev/pts/")
        stream.resize(50, 20)
        output, _, code = stream.finish()
        assert code == 0 and output.endswith(b"resized\r\n"), output


class TestStop:
    def test_within_its_time(self, pod: Pod) -> None:
        id = pod.run("sh", "-c", SERVICE)
        pod.await_output(id, "started")
        pod.cri("StopContainer", container_id=id, timeout=60)
        status = pod.container_status(id)
        assert (status.state, status.exit_code, pod.output(id)) == (EXITED, 9, ["started", "told to stop"])
        pod.cri("StopContainer", container_id=id, timeout=60)  # once more is no error

    def test_of_what_ignores_it(self, pod: Pod) -> None:
        id = pod.run("sh", "-c", "trap '' TERM; echo started; while :; do sleep 1; done")
        pod.await_output(id, "started")
        began = time.monotonic()
        pod.cri("StopContainer", container_id=id, timeout=1)
        assert time.monotonic() - began >= 1
        status = pod.container_status(id)
        assert (status.state, status.exit_code) == (EXITED, 137)

    def test_at_once(self, pod: Pod) -> None:
        id = pod.run("sh", "-c", "sleep 1000 & sleep 1000")
        pod.cri("StopContainer", container_id=id, timeout=0)
        assert pod.container_status(id).exit_code == 137

    def test_of_a_pod_with_running_containers(self, node: Node, handler: str) -> None:
        pod = node.kubelet.run_pod(handler)
        ids = [pod.run("sleep", "1000") for _ in range(2)]
        pids = [pod.pid(id) for id in (*ids, pod.id)]
        pod.stop()
        assert [pod.container_status(id).state for id in ids] == [EXITED, EXITED]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        pod.remove()
