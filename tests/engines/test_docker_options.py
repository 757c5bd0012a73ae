"""What `docker run` can say of a container's rights, devices and files, with this runtime and with runc."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_daemon import Docker, running
from engine import PYRUNTIME, Engine

from pyruntime.host import read_host

pytestmark = pytest.mark.privileged
# Docker 20.10 knows no later one than CAP_AUDIT_READ
ALL_CAPABILITIES = (1 << 38) - 1
CAPABILITIES = "grep CapEff /proc/self/status"
WHO = "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", (int)geteuid()); return 0; }\n"


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with running("--add-runtime", f"pyruntime={PYRUNTIME}") as docker:
        yield docker


@pytest.fixture(params=["pyruntime", "runc"])
def engine(request: pytest.FixtureRequest, docker: Docker) -> Engine:
    return docker.with_runtime(request.param)


def shell(engine: Engine, *options: str, script: str) -> list[str]:
    """The lines that a container with these options writes, whichever of its commands fail."""
    ended = engine.run("--rm", *options, "box", "sh", "-c", f"exec 2>&1; {script}; true")
    assert ended.code == 0, ended
    return ended.out.splitlines()


def test_capabilities(engine: Engine) -> None:
    def effective(*options: str) -> int:
        return int(shell(engine, *options, script=CAPABILITIES)[0].split()[1], 16)

    usual = effective()
    assert usual == 0xa80425fb
    assert effective("--cap-drop=ALL") == 0
    assert effective("--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=NET_ADMIN") == 1 << 0 | 1 << 12
    assert effective("--cap-add=SYS_PTRACE", "--cap-drop=MKNOD") == usual ^ (1 << 19 | 1 << 27)
    assert effective("--user=1000") == 0


def test_what_capabilities_allow(engine: Engine) -> None:
    """Changing a file's owner, and a network device."""
    script = "busybox chown 5 /tmp && echo changed; busybox ip link set lo mtu 1400 && echo set"
    assert shell(engine, "--cap-add=NET_ADMIN", script=script) == ["changed", "set"]
    refused = shell(engine, "--cap-drop=CHOWN", script=script)
    assert len(refused) == 2 and all("not permitted" in line for line in refused), refused


def test_filter_of_system_calls(engine: Engine, tmp_path: Path) -> None:
    """The engine's own, one from a file, and none."""
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 61}]
    (tmp_path / "filter.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    script = "grep Seccomp: /proc/self/status; mkdir /new && echo made; busybox unshare -U true && echo unshared"
    own = shell(engine, script=script)
    assert (own[0].split()[1], own[1], len(own)) == ("2", "made", 3) and "not permitted" in own[2], own
    stated = shell(engine, "--security-opt", f"seccomp={tmp_path}/filter.json", script=script)
    assert (stated[0].split()[1], stated[2], len(stated)) == ("2", "unshared", 3) and "No data available" in stated[1], stated
    none = shell(engine, "--security-opt", "seccomp=unconfined", script=script)
    assert [none[0].split()[1], *none[1:]] == ["0", "made", "unshared"]


def test_no_new_privileges(engine: Engine, tmp_path: Path) -> None:
    """A program that would be root's is the user's."""
    (tmp_path / "who.c").write_text(WHO)
    subprocess.run(["musl-gcc", "-Os", "-static", "-o", tmp_path / "who", tmp_path / "who.c"], check=True)
    (tmp_path / "who").chmod(0o4755)
    options = ["--user=1000", "-v", f"{tmp_path}/who:/bin/whose"]
    script = "whose; grep NoNewPrivs /proc/self/status"
    assert shell(engine, *options, script=script) == ["0", "NoNewPrivs:\t0"]
    assert shell(engine, *options, "--security-opt=no-new-privileges", script=script) == ["1000", "NoNewPrivs:\t1"]


def test_devices(engine: Engine) -> None:
    """One more, under a name of its own, and with the access that is stated; of others not even nodes that the container makes can be used."""
    script = "stat -c '%F %t:%T' /dev/mine; head -c 1 /dev/mine | wc -c; true >/dev/mine && echo opened"
    assert shell(engine, "--cap-add=SYSLOG", "--device=/dev/kmsg:/dev/mine", script=script) == ["character special file 1:b", "1", "opened"]
    *read, refused = shell(engine, "--cap-add=SYSLOG", "--device=/dev/kmsg:/dev/mine:r", script=script)
    assert read == ["character special file 1:b", "1"] and "not permitted" in refused, refused
    script = "busybox mknod /tmp/kmsg c 1 11 && head -c 1 </tmp/kmsg >/dev/null && echo read"
    (refused,) = shell(engine, "--cap-add=SYSLOG", script=script)
    assert "not permitted" in refused, refused
    assert shell(engine, "--cap-add=SYSLOG", "--device-cgroup-rule=c 1:11 rm", script=script) == ["read"]


def test_privileged(engine: Engine) -> None:
    """With all capabilities that the daemon has; runc fails where those are not all there are."""
    available = read_host().bounding_capabilities & ALL_CAPABILITIES
    if "runc" in engine.run_options and available != ALL_CAPABILITIES:
        ended = engine.run("--rm", "--privileged", "box", "true")
        assert ended.code == 125 and "unable to apply caps" in ended.err, ended
        return
    script = f"{CAPABILITIES}; grep Seccomp: /proc/self/status; test -c /dev/kmsg && mount -t tmpfs none /tmp && echo mounted"
    effective, seccomp, mounted = shell(engine, "--privileged", script=script)
    assert (int(effective.split()[1], 16), seccomp.split()[1], mounted) == (available, "0", "mounted")


def test_read_only_with_tmpfs(engine: Engine) -> None:
    script = ("touch /new; cd /scratch && touch new && ls; busybox dd if=/dev/zero of=big bs=1M count=2 2>&1 | grep -o 'No space.*'; "
              "busybox cp /bin/busybox true; ./true; stat -c %a .; touch /dev/shm/new && echo shm")
    read_only, *scratch = shell(engine, "--read-only", "--tmpfs=/scratch:size=1m,noexec,mode=700", script=script)
    assert read_only == "touch: /new: Read-only file system"
    assert scratch[:2] == ["new", "No space left on device"] and scratch[-2:] == ["700", "shm"], scratch
    assert any("Permission denied" in line for line in scratch), scratch


def test_volumes(docker: Docker, engine: Engine, volume: str) -> None:
    """The host's directory, read-only or not; a named one, which gets what the image has and outlives the container."""
    (Path(volume) / "program").write_text("#!/bin/sh\necho executed\n")
    (Path(volume) / "program").chmod(0o755)
    script = "/volume/program; touch /volume/new && echo written"
    assert shell(engine, "-v", f"{volume}:/volume", script=script) == ["executed", "written"]
    assert shell(engine, "-v", f"{volume}:/volume:ro", script=script) == ["executed", "touch: /volume/new: Read-only file system"]
    assert shell(engine, "--mount", f"type=bind,src={volume}/file,dst=/volume,readonly", script="cat /volume; echo x >/volume")[0] == "text"
    try:
        assert shell(engine, "-v", "named:/etc", script="cat /etc/passwd; echo kept >/etc/more") == ["root:x:0:0:root:/:/bin/sh"]
        assert shell(engine, "-v", "named:/other:ro", script="cat /other/more") == ["kept"]
        assert shell(engine, "-v", "other:/etc:nocopy", script="ls /etc") == ["hostname", "hosts", "resolv.conf"]
    finally:
        docker.succeed("volume", "rm", "-f", "named", "other")
    script = "grep ' /volume ' /proc/self/mountinfo | busybox cut -d' ' -f6; stat -c %a /volume"
    options, mode = shell(engine, "--mount", "type=tmpfs,dst=/volume,tmpfs-size=1m,tmpfs-mode=1770", script=script)
    assert mode == "1770" and {"nosuid", "nodev", "noexec"} <= set(options.split(",")), options


@pytest.mark.parametrize(("propagation", "is_seen"), [("rprivate", False), ("rslave", True), ("rshared", True)])
def test_propagation(engine: Engine, tmp_path: Path, propagation: str, is_seen: bool) -> None:
    """Of what the host mounts later; what the container mounts the host sees of a shared one only."""
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "source", source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        for name in ("late", "back"):
            (source / name).mkdir()
        may_mount = ("--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined")
        id = engine.run("-d", *may_mount, "-v", f"{source}:/volume:{propagation}", "box", "sleep", "1000").out
        try:
            subprocess.run(["mount", "-t", "tmpfs", "late", source / "late"], check=True)
            (source / "late/file").touch()
            assert engine.succeed("exec", id, "ls", "/volume/late") == ("file" if is_seen else "")
            engine.succeed("exec", id, "mount", "-t", "tmpfs", "back", "/volume/back")
            assert os.path.ismount(source / "back") == (propagation == "rshared")
        finally:
            engine.succeed("rm", "-f", id)
    finally:
        subprocess.run(["umount", "-R", source], check=True)


def test_settings(engine: Engine) -> None:
    options = ["--ulimit=nofile=123:456", "--shm-size=3m", "--oom-score-adj=321", "--group-add=7", "--user=5:6", "--workdir=/tmp/new",
               "--hostname=named", "--sysctl=net.ipv4.ip_default_ttl=77", "--add-host=other:192.0.2.1"]
    script = ("ulimit -Sn; ulimit -Hn; busybox df -k /dev/shm | grep -wo 3072 | head -n 1; cat /proc/self/oom_score_adj; id -G; pwd; hostname; "
              "cat /proc/sys/net/ipv4/ip_default_ttl; grep other /etc/hosts")
    assert shell(engine, *options, script=script) == ["123", "456", "3072", "321", "6 7", "/tmp/new", "named", "77", "192.0.2.1\tother"]


def test_namespaces_of_another_container(docker: Docker, engine: Engine) -> None:
    assert engine.run("-d", "--name=first", "--ipc=shareable", "box", "sleep", "1000").code == 0
    try:
        (first,) = docker.succeed("exec", "first", "readlink", "/proc/self/ns/pid").splitlines()
        script = "readlink /proc/self/ns/pid; head -c 5 /proc/1/cmdline; echo; stat -c %d /dev/shm"
        pid, command, shm = shell(engine, "--pid=container:first", "--ipc=container:first", script=script)
        assert (pid, command) == (first, "sleep")
        assert shm == docker.succeed("exec", "first", "stat", "-c", "%d", "/dev/shm")
        host = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "uts", "ipc")]
        script = "cd /proc/self/ns; readlink pid; readlink uts; readlink ipc"
        assert shell(engine, "--pid=host", "--uts=host", "--ipc=host", script=script) == host
    finally:
        docker.succeed("rm", "-f", "first")


@pytest.mark.parametrize(("source", "target"), [("file", "/etc"), ("directory", "/etc/passwd")])
def test_a_volume_on_what_is_otherwise(engine: Engine, tmp_path: Path, source: str, target: str) -> None:
    """Docker knows by the error what was meant, and says it."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    ended = engine.run("--rm", "-v", f"{tmp_path}/{source}:{target}", "box", "true")
    assert ended.code == 125 and "Are you trying to mount a directory onto a file (or vice-versa)?" in ended.err, ended
