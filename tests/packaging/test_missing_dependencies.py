"""A build without one of the Debian packages that it needs says in one line which one, and makes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from trees import build, copy_tree

INCLUDE = Path("/usr/include")
CC = sysconfig.get_config_var("CC").split()[0]
# Runs a command where one file is not there: overlays with a whiteout, in a mount namespace of its own.
HIDING = """
set -eu
mount -t tmpfs layers "$LAYERS"
for file in $HIDDEN; do
    directory=$(dirname "$file") layer=$(mktemp -d -p "$LAYERS")
    mkdir "$layer/upper" "$layer/work"
    mknod "$layer/upper/$(basename "$file")" c 0 0
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work" "$directory"
    ! test -e "$file"
done
exec "$@"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("sources") / "tree")


def build_without(files: list[Path], tree: Path, layers: Path) -> subprocess.CompletedProcess[str]:
    """What a build of the tree says where these files are missing."""
    layers.mkdir()
    return build(tree, "unshare", "-m", "sh", "-c", HIDING, "sh", environment={"HIDDEN": " ".join(map(str, files)), "LAYERS": str(layers)})


def program(name: str) -> Path:
    found = shutil.which(name)
    assert found is not None
    return Path(found)


@pytest.mark.parametrize(("files", "what", "package"), [
    pytest.param([program("musl-gcc")], "musl-gcc", "musl-tools", id="musl-tools"),
    pytest.param([program(CC)], CC, "gcc", id="gcc"),
    pytest.param([INCLUDE / "stdio.h"], "<stdio.h>", "libc6-dev", id="libc6-dev"),
    pytest.param([INCLUDE / "linux/openat2.h"], "<linux/openat2.h>", "linux-libc-dev", id="linux-libc-dev"),
    pytest.param([INCLUDE / "seccomp.h"], "<seccomp.h>", "libseccomp-dev", id="libseccomp-dev"),
    pytest.param([INCLUDE / "sys/capability.h"], "<sys/capability.h>", "libcap-dev", id="libcap-dev"),
    pytest.param([Path(sysconfig.get_path("include")) / "Python.h"], "<Python.h>", "python3-dev", id="python3-dev")])
def test_one_line_names_the_package(files: list[Path], what: str, package: str, tree: Path, tmp_path: Path) -> None:
    result = build_without(files, tree, tmp_path / "layers")
    said = [line.strip() for line in result.stdout.splitlines() if "pyruntime: " in line]
    assert said == [f"pyruntime: cannot build: {what} not found; install Debian's package {package}"]
    assert result.returncode == 1
    assert "Traceback" not in result.stdout and not list((tree / "dist").iterdir())


def test_the_same_build_with_all_of_them(tree: Path, tmp_path: Path) -> None:
    result = build_without([], tree, tmp_path / "layers")
    assert result.returncode == 0, result.stdout
    assert [path.suffix for path in (tree / "dist").iterdir()] == [".whl"]
