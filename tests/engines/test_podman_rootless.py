"""podman of a user without privileges, who has ranges of ids and no cgroups."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine, import_image, require, until
from podman import RUNTIMES, configure, remove
from users import FIRST_ID, GID, IDS, NAME, UID, processes_of

pytestmark = pytest.mark.privileged
OWN = f"{UID}:{GID}"


@pytest.fixture(scope="module")
def rootless() -> Iterator[Engine]:
    """Of a user that has a name and ranges in files that nobody else sees, as each command of the client sees them."""
    require("podman", "conmon", "crun", "newuidmap", "slirp4netns", "setpriv")
    # not below pytest's own directory, which is closed to others
    # podman takes no run directory whose path is longer than 50 characters
    directory = Path(tempfile.mkdtemp(prefix="podman-user-", dir="/tmp"))
    files = {"passwd": f"root:x:0:0::/root:/bin/sh\n{NAME}:x:{UID}:{GID}::{directory}:/bin/sh\n", "group": f"root:x:0:\n{NAME}:x:{GID}:\n",
             "subuid": f"{NAME}:{FIRST_ID}:{IDS}\n", "subgid": f"{NAME}:{FIRST_ID}:{IDS}\n"}
    for name, text in files.items():
        (directory / name).write_text(text)
    (directory / "state").mkdir(mode=0o700)
    environment = {**configure(directory, "cgroupfs"), "HOME": str(directory), "XDG_RUNTIME_DIR": f"{directory}/state"}
    for path in (directory, *directory.rglob("*")):
        os.chown(path, UID, GID)
    binds = "; ".join(f"mount --bind {directory}/{name} /etc/{name}" for name in files)
    become = f"set -e; {binds}; cd {shlex.quote(str(directory))}; exec setpriv --reuid={UID} --regid={GID} --clear-groups \"$@\""
    engine = Engine(["unshare", "--mount", "sh", "-c", become, "sh", "podman"], environment, ["--network=none"])
    try:
        import_image(engine, directory)
        yield engine
    finally:
        engine("rm", "-af", "-t", "0")
        engine("system", "migrate")  # ends the process that holds the user's namespaces
        # what the user's ids have made only root can remove
        until(lambda: not processes_of(UID), "nothing of the user's runs")
        shutil.rmtree(directory)


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, rootless: Engine) -> Engine:
    return Engine([*rootless.command, "--runtime", request.param], rootless.environment, rootless.run_options)


def test_who_is_who(engine: Engine) -> None:
    """Root of the container is the user; with keep-id the user is who it is; with nomap it is nobody there."""
    script = "id -u; cat /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x"
    for options, id, maps in ((["--userns=host"], "0", [[0, UID, 1], [1, FIRST_ID, IDS]]),
                              (["-u", "1000"], "1000", [[0, UID, 1], [1, FIRST_ID, IDS]]),
                              (["--userns=keep-id"], str(UID), [[0, 1, UID], [UID, 0, 1], [UID + 1, UID + 1, IDS - UID]]),
                              (["--userns=nomap"], "0", [[0, 1, IDS]])):
        ended = engine.run("--rm", "--tmpfs=/tmp:mode=1777", *options, "box", "sh", "-c", script)
        assert ended.code == 0, ended
        first, *lines, owner = ended.out.splitlines()
        assert (first, owner) == (id, id), (options, ended)
        assert [list(map(int, line.split())) for line in lines] == maps, (options, ended)


def test_a_service(engine: Engine, tmp_path: Path) -> None:
    """It is executed in, copied from, stopped, started again and removed; outside it is the user's, or of the user's range."""
    script = "trap 'echo told; exit 9' TERM; echo started >>/tmp/log; echo ready; while :; do sleep 0.1; done"
    id = engine.succeed("run", "-d", *engine.run_options, "-u", "1000", "--tmpfs=/tmp:mode=1777", "box", "sh", "-c", script)
    engine.await_output(id, "ready")
    pid = engine.succeed("inspect", "-f", "{{.State.Pid}}", id)
    assert Path(f"/proc/{pid}").stat().st_uid == FIRST_ID + 999
    assert engine.succeed("exec", id, "sh", "-c", "id -u; cat /tmp/log; readlink /proc/1/ns/net").split()[:2] == ["1000", "started"]
    assert engine("exec", "-u", "0", id, "sh", "-c", "id -u; exit 6").code == 6
    assert "sleep 0.1" in engine.succeed("top", id, "args")
    engine.succeed("stop", "-t", "60", id)
    assert engine.succeed("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id) == "exited 9"
    assert engine.succeed("logs", id).splitlines() == ["ready", "told"]
    engine.succeed("start", id)
    assert engine.succeed("inspect", "-f", "{{.State.Status}}", id) == "running"
    engine.succeed("kill", id)
    assert engine.succeed("wait", id) == "137"
    remove(engine, id)
    assert engine.succeed("ps", "-aq") == ""


def test_a_volume_and_devices(engine: Engine, rootless: Engine) -> None:
    """The user's own files are root's in the container; nothing of the host's may be done that the user may not."""
    directory = Path(rootless.environment["HOME"], "volume")
    directory.mkdir(exist_ok=True)
    os.chown(directory, UID, GID)
    script = "echo new >/volume/file; stat -c %u:%g /volume/file; echo x >/dev/null; wc -l </hosts; (: >>/hosts) || echo refused"
    ended = engine.run("--rm", "-v", f"{directory}:/volume", "-v", "/etc/hostname:/hosts", "box", "sh", "-c", script)
    assert ended.out.split() == ["0:0", "1", "refused"], ended
    made = (directory / "file").stat()
    assert f"{made.st_uid}:{made.st_gid}" == OWN and (directory / "file").read_text() == "new\n"
    shutil.rmtree(directory)


def test_a_pod_and_a_published_port(engine: Engine) -> None:
    """The network is slirp4netns's, a process of the user's, which also publishes."""
    pod = engine.succeed("pod", "create", "--network=slirp4netns", "-p", "127.0.0.1:18090:8080", "--infra-image=localhost/box",
                         "--infra-command=sleep 1000")
    try:
        server = "while :; do echo hello | busybox nc -l -p 8080; done"
        engine.succeed("run", "-d", "--pod", pod, "box", "sh", "-c", server)
        assert until(lambda: subprocess.run(["busybox", "nc", "-w", "5", "127.0.0.1", "18090"], capture_output=True, check=False,
                                            stdin=subprocess.DEVNULL).stdout, "the port is published") == b"hello\n"
        said = until(lambda: engine("run", "--rm", "--pod", pod, "box", "busybox", "nc", "127.0.0.1", "8080").out, "the server listens")
        assert said == "hello"
    finally:
        engine.succeed("pod", "rm", "-f", "-t", "0", pod)

