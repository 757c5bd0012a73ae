"""The hooks of config.json: when they run, where, and with what."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hook_lab import KINDS, OUTSIDE, Diary, shell
from lab import MAPS, NAMESPACES, Lab, bind, namespaces, with_mounts

from pyruntime import NativeRuntime, StdioOptions

pytestmark = pytest.mark.privileged


@pytest.fixture
def diary(lab: Lab) -> Diary:
    return Diary(lab.directory / "diary")


@pytest.mark.conformance(24, 61)
def test_order(lab: Lab, diary: Diary) -> None:
    hooks = {kind: [diary.note(f"{kind}0"), diary.note(f"{kind}1")] for kind in reversed(KINDS) if kind in OUTSIDE}
    pid = lab.create("echo program; exec sleep 1000", hooks=hooks | {"startContainer": [shell("echo start > /dev/shm/order")]})
    assert diary.lines == ["prestart0", "prestart1", "createRuntime0", "createRuntime1", "createContainer0", "createContainer1"]
    assert lab.runtime.get_container_state("p1").status == "created"
    lab.runtime.start_container("p1")
    out = lab.runtime.get_stdio_pipes("p1", pid).out
    assert out is not None and os.read(out.fileno(), 100) == b"program\n"
    assert lab.exec("cat /dev/shm/order") == "start\n"
    assert diary.lines[6:] == ["poststart0", "poststart1"]
    lab.runtime.delete_container("p1", force=True)
    assert diary.lines[8:] == ["poststop0", "poststop1"]
    assert not lab.runtime.container_exists("p1")


@pytest.mark.conformance(24)
def test_state(lab: Lab, diary: Diary) -> None:
    started = shell("cat > /dev/shm/state", env=["PATH=/bin"])
    pid = lab.sleeper(hooks={kind: [diary.state()] for kind in OUTSIDE} | {"startContainer": [started]},
                      annotations={"org.example": 'a "quoted" ä'})
    inside = json.loads(lab.exec("cat /dev/shm/state"))
    lab.runtime.delete_container("p1", force=True)
    common = {"ociVersion": "1.0.2", "id": "p1", "bundle": str(lab.directory / "bundle2"),
              "annotations": {"org.example": 'a "quoted" ä'}}
    # runtime.md, "State": the pid as seen by the runtime, or by the container
    assert diary.states == [{**common, "status": "creating", "pid": pid}, {**common, "status": "creating", "pid": pid},
                            {**common, "status": "creating", "pid": 1}, {**common, "status": "running", "pid": pid},
                            {**common, "status": "stopped"}]
    assert inside == {**common, "status": "created", "pid": 1}


def test_state_without_annotations_and_for_a_long_id(lab: Lab, diary: Diary) -> None:
    id = "p1" + "x" * 200
    lab.create(["/bin/true"], id, hooks={"prestart": [diary.state()], "createContainer": [diary.state()]})
    assert [(state["id"], "annotations" in state) for state in diary.states] == [(id, False)] * 2


@pytest.mark.conformance(24)
def test_namespaces(lab: Lab, diary: Diary) -> None:
    names = ("mnt", "net", "ipc", "uts", "pid", "cgroup")
    look = f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done | tr '\\n' ' ' >> {diary.path}; echo >> {diary.path}"
    pid = lab.sleeper(hooks={kind: [shell(look)] for kind in OUTSIDE})
    inside = [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]
    lab.runtime.delete_container("p1", force=True)
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert [line.split() for line in diary.lines] == [ours, ours, inside, ours, ours]


def test_the_pid_has_its_namespaces_while_hooks_run(lab: Lab, diary: Diary) -> None:
    """As Docker's libnetwork-setkey uses it."""
    look = shell(f"read state; pid=${{state#*\\\"pid\\\":}}; readlink /proc/${{pid%%,*}}/ns/net >> {diary.path}")
    pid = lab.create(["/bin/sleep", "1000"], hooks={"prestart": [look], "createRuntime": [look]})
    assert diary.lines == [os.readlink(f"/proc/{pid}/ns/net")] * 2


def test_an_address_of_a_hook_is_in_the_container(lab: Lab) -> None:
    hook = shell('read state; pid=${state#*\\"pid\\":}; nsenter --net=/proc/${pid%%,*}/ns/net ip address add 10.9.8.7/32 dev lo',
                 env=["PATH=/bin:/usr/bin:/sbin:/usr/sbin"])
    assert "10.9.8.7" in lab.run("cat /proc/net/fib_trie", hooks={"createRuntime": [hook]})


@pytest.mark.conformance(24)
def test_arguments_environment_and_directory(lab: Lab, diary: Diary) -> None:
    def tell(*words: str) -> dict[str, Any]:
        script = f"pwd >> {diary.path}; (tr '\\0' ' ' < /proc/self/environ; echo \"$0|$@\") >> {diary.path}"
        return {"path": "/bin/sh", "args": ["name of it", "-c", script, *words], "env": ["B=2", "A=1", "A=3"]}

    os.environ["SECRET_OF_THE_CALLER"] = "1"
    lab.create(["/bin/sleep", "1000"], hooks={"prestart": [tell("zero", "one two")], "createContainer": [tell("0", "")]})
    bundle = str(lab.directory / "bundle2")
    assert diary.lines == [bundle, "B=2 A=1 A=3 zero|one two", str(lab.rootfs), "B=2 A=1 A=3 0|"]


@pytest.mark.conformance(24)
def test_without_arguments_and_environment(lab: Lab, diary: Diary) -> None:
    """argv is the path, and there is no environment."""
    script = lab.directory / "hook"
    script.write_text(f"#!/bin/sh\n(echo $0 $#; tr '\\0' '|' < /proc/self/environ) >> {diary.path}\n")
    script.chmod(0o755)
    hooks = {"prestart": [{"path": str(script)}], "createContainer": [{"path": str(script), "args": [], "env": []}]}
    lab.create(["/bin/true"], hooks=hooks)
    assert diary.lines == [f"{script} 0"] * 2


@pytest.mark.conformance(24)
def test_start_container_hook_is_in_the_container_as_its_process(lab: Lab) -> None:
    look = "(pwd; id -u; hostname; umask; grep Cap /proc/self/status; readlink /proc/1/exe || echo hidden) > /dev/shm/seen"
    lab.sleeper(process={"user": {"uid": 5, "gid": 6, "umask": 0o27}, "cwd": "/tmp"},
                hooks={"startContainer": [shell(look, env=["PATH=/bin"])]})
    seen = lab.exec("cat /dev/shm/seen", user={"uid": 5, "gid": 6}).splitlines()
    assert seen[:4] == ["/tmp", "5", "contract", "0027"]
    assert [line.split()[1] for line in seen[4:9]] == [line.split()[1] for line in lab.exec(
        "grep Cap /proc/self/status", user={"uid": 5, "gid": 6}).splitlines()]
    assert seen[9:] == ["hidden"]


@pytest.mark.conformance(24)
def test_create_container_hook_sees_host_and_container(lab: Lab, diary: Diary) -> None:
    """The mounts are there, below the path of the root, and nothing is read-only or masked yet (as with runc)."""
    (lab.directory / "volume").mkdir()
    (lab.directory / "volume" / "file").write_text("text\n")
    rootfs = lab.rootfs
    script = (f"cat {rootfs}/mnt/file; test -c {rootfs}/dev/null && echo device; ls {rootfs}/proc/1/comm; echo made > {rootfs}/made;"
              f"mkdir -p {rootfs}/tmp/bound; mount --bind {lab.directory}/volume {rootfs}/tmp/bound; umask")
    (rootfs / "mnt").mkdir(exist_ok=True)
    output = lab.run("cat /made /tmp/bound/file; ls /", root={"readonly": True}, hooks={"createContainer": [
        shell(f"({script}) >> {diary.path} 2>&1", env=["PATH=/bin:/usr/bin"])]},
        mounts=with_mounts(bind(lab.directory / "volume", "bind", to="/mnt")))
    assert diary.lines == ["text", "device", f"{rootfs}/proc/1/comm", "0022"]
    assert output.splitlines()[:2] == ["made", "text"]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(rootfs) not in mounts


@pytest.mark.parametrize("kind", OUTSIDE)
def test_nothing_of_the_caller_reaches_a_hook(lab: Lab, diary: Diary, kind: str) -> None:
    """Descriptors, and signals that are ignored or blocked."""
    leaks = [os.open("/", os.O_RDONLY) for _ in range(3)]
    status = lab.directory / "status"
    try:
        for leak in leaks:
            os.set_inheritable(leak, True)
        # as Python does with SIGPIPE
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        look = f"ls /proc/self/fd | tr '\\n' ' ' >> {diary.path}"
        lab.create(["/bin/true"], hooks={kind: [shell(look), {"path": "/bin/cp", "args": ["cp", "/proc/self/status", str(status)]}]},
                   stdio=StdioOptions(create_in=True, create_out=True, create_err=True))
        lab.runtime.start_container("p1")
        lab.runtime.delete_container("p1", force=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        for leak in leaks:
            os.close(leak)
    assert diary.lines == ["0 1 2 3 "]  # 3 is the directory that ls reads
    fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
    assert {fields[name] for name in ("SigIgn", "SigBlk", "SigCgt")} == {"0" * 16}


@pytest.mark.conformance(62)
@pytest.mark.parametrize("kind", ["createContainer", "startContainer"])
def test_what_is_preserved_for_the_program_is_not_for_hooks(lab: Lab, kind: str) -> None:
    place = lab.rootfs if kind == "createContainer" else ""
    hook = shell(f"ls /proc/self/fd > {place}/tmp/seen", env=["PATH=/bin:/usr/bin"])
    bundle = lab.bundle(["/bin/sh", "-c", "read line <&3; echo $line; cat /tmp/seen"], hooks={kind: [hook]}, root={"readonly": False})
    script = ("import os, sys; from pyruntime import NativeRuntime, StdioOptions\n"
              "read, write = os.pipe(); os.write(write, b'text\\n'); os.dup2(read, 3)\n"
              "runtime = NativeRuntime(sys.argv[1])\n"
              "pid = runtime.create_container('p1', sys.argv[2], StdioOptions(create_out=True, preserve_fds=1))\n"
              "runtime.start_container('p1'); print(runtime.get_stdio_pipes('p1', pid).out.read(100).decode())\n"
              "runtime.wait_on_container('p1'); runtime.delete_container('p1')")
    shown = subprocess.run([sys.executable, "-c", script, str(lab.root), bundle], check=True, capture_output=True, text=True).stdout
    assert shown.split()[0] == "text"
    # 3 is the directory that ls reads
    assert (lab.rootfs / "tmp" / "seen").read_text().split() == ["0", "1", "2", "3"]


@pytest.mark.conformance(61)
def test_start_and_delete_by_other_processes(lab: Lab, diary: Diary) -> None:
    """Also after config.json has changed, which counts for nothing any more (runtime.md, "Lifecycle")."""
    hooks = {"startContainer": [shell("echo start > /dev/shm/order")], "poststart": [diary.note("poststart")], "poststop": [diary.state()]}
    bundle = lab.bundle(["/bin/sleep", "1000"], hooks=hooks)
    lab.runtime.create_container("p1", bundle, StdioOptions())
    Path(bundle, "config.json").write_text("{}")
    script = ("import sys; from pyruntime import NativeRuntime; runtime = NativeRuntime(sys.argv[1])\n"
              "getattr(runtime, sys.argv[2])('p1', *map(bool, sys.argv[3:]))")
    subprocess.run([sys.executable, "-c", script, str(lab.root), "start_container"], check=True)
    assert diary.lines == ["poststart"] and lab.exec("cat /dev/shm/order") == "start\n"
    subprocess.run([sys.executable, "-c", script, str(lab.root), "delete_container", "force"], check=True)
    assert json.loads(diary.lines[1])["status"] == "stopped"


def test_record_of_a_container_without_later_hooks(lab: Lab, diary: Diary) -> None:
    lab.create(["/bin/true"], hooks={"prestart": [diary.note("x")]})
    assert b"hooks" not in (lab.root / "p1" / "state.json").read_bytes()
    lab.create(["/bin/true"], "p2", hooks={"poststop": [diary.note("y")]})
    assert b"hooks" in (lab.root / "p2" / "state.json").read_bytes()


@pytest.mark.parametrize("namespace", [{}, {"path": "/proc/self/ns/pid"}])
def test_user_namespace(reachable: Lab, diary: Diary, namespace: dict[str, str]) -> None:
    """A hook in the container has its ids, and the directories above the root may be closed to them."""
    kinds = [kind for kind in NAMESPACES if kind != "pid"] + ["user"]
    chosen = [*namespaces(*kinds), {"type": "pid", **namespace}] if not namespace else namespaces(*kinds, "pid")
    diary.path.chmod(0o666)
    seen = [shell(f"cat /proc/self/uid_map >> {diary.path}; ls {reachable.rootfs}/proc >/dev/null && echo mounted >> {diary.path}")]
    reachable.run(["true"], linux={"namespaces": chosen, **MAPS}, hooks={"createContainer": seen, "prestart": [diary.note("first")]})
    assert diary.lines[0] == "first" and diary.lines[1].split() == ["0", "100000", "65536"] and diary.lines[2:] == ["mounted"]


def test_user_namespace_below_a_closed_directory(lab: Lab, diary: Diary) -> None:
    lab.directory.chmod(0o700)
    kinds = [*NAMESPACES, "user"]
    assert lab.run("echo ran", linux={"namespaces": namespaces(*kinds), **MAPS}, hooks={"createRuntime": [diary.note("ran")],
                   "createContainer": [{"path": "/bin/true"}]}) == "ran\n"
    assert diary.lines == ["ran"]


def test_joined_namespaces(lab: Lab, diary: Diary) -> None:
    first = lab.sleeper("p2")
    joined = {kind: f"/proc/{first}/ns/{name}" for kind, name in (("pid", "pid"), ("network", "net"))}
    look = shell(f"(readlink /proc/self/ns/pid; readlink /proc/self/ns/net) >> {diary.path}")
    output = lab.run("readlink /proc/self/ns/pid", linux={"namespaces": namespaces("mount", "ipc", "uts", **joined)},
                     hooks={"createContainer": [look, diary.state()], "prestart": [diary.state()]})
    pid, net = (os.readlink(f"/proc/{first}/ns/{name}") for name in ("pid", "net"))
    assert output == f"{pid}\n" and diary.lines[1:3] == [pid, net]
    outer, inner = (json.loads(diary.lines[i])["pid"] for i in (0, 3))
    assert outer > inner > 1


def test_joined_mount_namespace(lab: Lab, diary: Diary) -> None:
    holder = subprocess.Popen(["unshare", "-m", "--propagation", "slave", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"\n"
        chosen = namespaces("pid", "network", "ipc", "uts", mount=f"/proc/{holder.pid}/ns/mnt")
        look = shell(f"readlink /proc/self/ns/mnt >> {diary.path}; ls -d {lab.rootfs}/proc/1 >> {diary.path}")
        lab.run(["true"], linux={"namespaces": chosen}, hooks={"createContainer": [look]})
        assert diary.lines == [os.readlink(f"/proc/{holder.pid}/ns/mnt"), f"{lab.rootfs}/proc/1"]
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def test_covered_root(lab: Lab, diary: Diary) -> None:
    """`no_pivot`, as on an initramfs."""
    bundle = lab.bundle(["/bin/sh", "-c", "ls -d /bin /proc/1"], hooks={"createContainer": [diary.note("ran")]})
    pid = lab.runtime.create_container("p1", bundle, StdioOptions(create_out=True), no_pivot=True)
    lab.runtime.start_container("p1")
    assert lab.read("p1", pid) == "/bin\n/proc/1\n" and diary.lines == ["ran"]


def test_hooks_of_many_containers_at_once(lab: Lab, diary: Diary) -> None:
    bundle = lab.bundle(["/bin/sleep", "1000"], hooks={kind: [diary.note(kind)] for kind in OUTSIDE})

    def cycle(id: str) -> None:
        runtime = NativeRuntime(str(lab.root))
        runtime.create_container(id, bundle, StdioOptions())
        runtime.start_container(id)
        runtime.delete_container(id, force=True)

    threads = [threading.Thread(target=cycle, args=(f"p{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(diary.lines) == sorted([*OUTSIDE] * 6)
