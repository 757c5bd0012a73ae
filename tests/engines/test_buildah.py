"""buildah, with this runtime and with its own. That is crun, which refuses hybrid cgroups if buildah calls it; there it is runc."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import PYRUNTIME, Engine, leaving_no_files, require, unmount_below
from image import make_tree

from pyruntime.host import read_host

pytestmark = pytest.mark.privileged
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
tmp_dir = "{directory}/tmp"
[network]
network_backend = "netavark"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""
STOCK = "crun" if read_host().is_unified else "runc"
# a working container of the image, and the memory that it may use
BOX, MEMORY = "box", 64 << 20


@pytest.fixture(scope="module")
def buildah() -> Iterator[Engine]:
    """With directories of its own, an image `box` and a working container of it."""
    require("buildah", STOCK, "script")
    directory = Path(tempfile.mkdtemp(prefix="buildah-"))
    (directory / "containers.conf").write_text(CONFIGURATION.format(directory=directory))
    (directory / "storage.conf").write_text(STORAGE.format(directory=directory))
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    engine = Engine(["buildah"], {"CONTAINERS_CONF": f"{directory}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
                                  "TMPDIR": str(directory)}, [])
    with leaving_no_files("/run/containers", "/run/libpod", "/var/lib/containers", "/var/lib/cni", "/run/lock/libpod", "/run/crun"):
        try:
            engine.succeed("from", "--name", "scratch", "scratch")
            engine.succeed("copy", "scratch", str(make_tree(directory / "rootfs")), "/")
            engine.succeed("config", "--env", "PATH=/bin", "--cmd", "sh", "scratch")
            engine.succeed("commit", "--signature-policy", f"{directory}/policy.json", "scratch", "localhost/box")
            engine.succeed("from", "--name", BOX, "--signature-policy", f"{directory}/policy.json", f"--memory={MEMORY}", "localhost/box")
            yield engine
        finally:
            engine("rm", "-a")
            unmount_below(directory)
            left = list(directory.glob("containers-*/[!.]*"))
            shutil.rmtree(directory)
    assert left == []


@pytest.fixture(params=["pyruntime", STOCK])
def engine(request: pytest.FixtureRequest, buildah: Engine) -> Engine:
    directory = Path(buildah.environment["TMPDIR"])
    options = ["--runtime", PYRUNTIME if request.param == "pyruntime" else request.param, "--isolation", "oci", "--network", "none"]
    for flag in (f"root={directory}/containers-{request.param}", f"log={directory}/log-{request.param}"):
        options += ["--runtime-flag", flag]
    return Engine(buildah.command, buildah.environment, options)


@pytest.mark.parametrize(("command", "code"), [
    (["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 0), (["sh", "-c", "sleep 60 & kill -9 $!; wait $!"], 137)])
def test_exit_code(engine: Engine, command: list[str], code: int) -> None:
    """A process that is 1 in its namespace cannot kill itself."""
    ended = engine.run(BOX, "--", *command)
    assert ended.code == code, ended


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/not-executable"])
def test_what_cannot_be_executed(engine: Engine, program: str) -> None:
    ended = engine.run(BOX, "--", program)
    assert ended.code != 0, ended
    assert program in ended.err or STOCK in engine.run_options, ended


def test_streams(engine: Engine) -> None:
    ended = engine.run(BOX, "--", "sh", "-c", "cat; echo wrong >&2", stdin="typed")
    assert (ended.code, ended.out, ended.err) == (0, "typed", "wrong")


def test_terminal(engine: Engine) -> None:
    """Its size buildah sets when it has accepted it, beside starting the program, which may be the first to run."""
    script = "tty; n=0; until stty size 2>/dev/null || [ $((n += 1)) = 100 ]; do sleep 0.1; done; test -t 0 -a -t 1 -a -t 2; exit 5"
    ended = engine.in_terminal("run", *engine.run_options, "-t", BOX, "--", "sh", "-c", script)
    assert ended.code == 5, ended
    assert "/dev/pts/0" in ended.out and "20 50" in ended.out, ended


def test_user_and_files(engine: Engine, volume: str) -> None:
    script = "id -u; id -g; cat /volume/file; echo $NAME; pwd; hostname; touch /volume/new || echo read-only"
    ended = engine.run("--user", "1000:100", "-v", f"{volume}:/volume:ro", "-e", "NAME=value", "--workingdir", "/tmp", "--hostname", "named",
                       BOX, "--", "sh", "-c", script)
    assert (ended.code, ended.out.splitlines()) == (0, ["1000", "100", "text", "value", "/tmp", "named", "read-only"]), ended


def test_a_volume_without_options(engine: Engine, volume: str) -> None:
    """Of which buildah writes an empty mount option."""
    ended = engine.run("-v", f"{volume}:/volume", BOX, "--", "sh", "-c", "cat /volume/file; echo new >/volume/written")
    assert (ended.code, ended.out) == (0, "text"), ended
    assert Path(volume, "written").read_text() == "new\n"


def test_what_is_written_stays(engine: Engine) -> None:
    assert engine.run(BOX, "--", "sh", "-c", "echo text >/kept").code == 0
    ended = engine.run(BOX, "--", "sh", "-c", "cat /kept; rm /kept")
    assert (ended.code, ended.out) == (0, "text"), ended


def test_capabilities(engine: Engine) -> None:
    ended = engine.run("--cap-drop", "CAP_CHOWN", "--cap-add", "CAP_SYS_ADMIN", BOX, "--", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status")
    has, mode = (line.split()[-1] for line in ended.out.splitlines())
    assert (int(has, 16) >> 21 & 1, int(has, 16) & 3, mode) == (1, 2, "2"), ended  # with CAP_DAC_OVERRIDE, which nobody spoke of


def test_namespaces_of_the_host(engine: Engine) -> None:
    names = ("net", "pid", "ipc", "uts")
    for name in names:
        option = "network" if name == "net" else name
        ended = engine.run(f"--{option}", "host", BOX, "--", "readlink", f"/proc/self/ns/{name}")
        assert ended.out == os.readlink(f"/proc/self/ns/{name}"), ended


def test_limits_bind(engine: Engine) -> None:
    ended = engine.run(BOX, "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    assert ended.code == 1 and "exited on killed" in ended.err, ended
    assert engine.run(BOX, "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=1").code == 0


def test_build(engine: Engine, tmp_path: Path) -> None:
    """RUN instructions are containers too."""
    (tmp_path / "Containerfile").write_text(
        "FROM localhost/box\nRUN echo made >/made && chown 5:6 /made\nUSER 5\nRUN id -u >>/made\nRUN false || exit 4\n")
    local = ["--pull=never", "--signature-policy", f"{engine.environment['TMPDIR']}/policy.json"]
    options = ["build", *engine.run_options, *local, "-t", "localhost/built"]
    failed = engine(*options, str(tmp_path))
    assert failed.code == 4 or "exit status 4" in failed.err, failed
    (tmp_path / "Containerfile").write_text((tmp_path / "Containerfile").read_text().replace("RUN false || exit 4\n", ""))
    engine.succeed(*options, str(tmp_path))
    container = engine.succeed("from", *local, "localhost/built")
    ended = engine.run(container, "--", "sh", "-c", "cat /made; stat -c %u:%g /made")
    assert ended.out.split() == ["made", "5", "5:6"], ended
    engine.succeed("rm", container)
    engine.succeed("rmi", "localhost/built")
