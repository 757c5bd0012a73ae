"""Source trees, interpreters and virtual environments to build and install in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
OF_THE_TREE = shutil.ignore_patterns(".git", ".venv", "build", "dist", "results", "floor", "*.so", "*.egg-info", "__pycache__", ".*_cache")
# what `make test` sets leads to the tree under test, which is what these tests must not see
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYRUNTIME_"))} | {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def copy_tree(to: Path) -> Path:
    """The sources as a clone has them: nothing that a build made."""
    shutil.copytree(ROOT, to, ignore=OF_THE_TREE)
    return to


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Output of a command that must succeed."""
    result = subprocess.run(command, cwd=cwd, env=environment or ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, f"{' '.join(map(str, command))}: exit status {result.returncode}\n{result.stdout}"
    return result.stdout


def build(tree: Path, *prefix: str, environment: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    """`pip wheel` of the tree into its dist/, which is there, with the build's requirements of this environment."""
    (tree / "dist").mkdir(exist_ok=True)
    command = [*prefix, sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", "dist", "."]
    return subprocess.run(command, cwd=tree, env=ENVIRONMENT | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def empty_environment(directory: Path, interpreter: str | Path = sys.executable) -> Path:
    """A new virtual environment; its interpreter."""
    run(interpreter, "-m", "venv", directory, cwd=directory.parent)
    return directory / "bin" / "python"


def newer_interpreters() -> dict[str, Path]:
    """Interpreters of 3.12 and later on the path and below pyenv's directory, one for each version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found: dict[str, Path] = {}
    for minor in range(12, 20):
        name = f"python3.{minor}"
        for candidate in (*sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}")), *filter(None, [shutil.which(name)])):
            # pyenv's shims are found where no such version is chosen, and Debian's interpreters may have no venv
            tried = subprocess.run([candidate, "-c", "import venv, ensurepip"], env=ENVIRONMENT, capture_output=True)
            if tried.returncode == 0:
                found.setdefault(f"3.{minor}", Path(candidate))
    return found
