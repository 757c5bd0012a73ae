"""What the sdist and the wheel hold, and that a wheel made of the sdist runs a container wherever it is installed."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from trees import ROOT, copy_tree, empty_environment, newer_interpreters, run

# no compiled extension, bytecode, virtual environment or result of a benchmark
MADE = {".so", ".o", ".pyc", ".png"}
SOURCES = {"native": ("*.[ch]",), "pyruntime": ("*.py", "*.pyi", "py.typed"), "tests": ("*.py", "*.sh", "*.[ch]", "*.toml", "*.json"),
           "bench": ("*.py", "*.[ch]"), "docs": ("*.md", "*.8")}
INTERPRETERS = {"{}.{}".format(*sys.version_info): Path(sys.executable)} | newer_interpreters()
VERSION_AND_PLACE = "import sys, pyruntime; print('{}.{}'.format(*sys.version_info), pyruntime.__file__)"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    tree = copy_tree(directory / "tree")
    run(sys.executable, "-c", f"import build; build.build_sdist({str(directory)!r})", cwd=tree)
    (archive,) = directory.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip as a user does, with the build's requirements in an environment of their own."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory, sdist, cwd=directory)
    (archive,) = directory.glob("*.whl")
    return archive


def runs_a_container(interpreter: Path, version: str, installed_in: Path, directory: Path) -> None:
    """From an empty directory: the demo, which ends in success only if each of its steps did."""
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    shown, place = run(interpreter, "-c", VERSION_AND_PLACE, cwd=elsewhere).split()
    assert shown == version
    assert Path(place).is_relative_to(installed_in)
    assert "hello from the container" in run(interpreter, "-m", "pyruntime.demo", cwd=elsewhere)
    # the program, and what it hands over to
    assert run(interpreter.parent / "pyruntime", "--version", cwd=elsewhere) == run(interpreter, "-m", "pyruntime", "--version", cwd=elsewhere)
    assert not list(elsewhere.iterdir())


def test_the_sdist_holds_all_sources_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {PurePosixPath(*PurePosixPath(member.name).parts[1:]) for member in archive if member.isfile()}
    sources = {path.relative_to(ROOT) for directory, patterns in SOURCES.items() for pattern in patterns
               for path in (ROOT / directory).rglob(pattern)}
    sources |= {Path(name) for name in ("build.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")}
    assert len(sources) > 100
    assert {PurePosixPath(path) for path in sources if "__pycache__" not in path.parts} <= files
    assert not [path for path in files if path.suffix in MADE or path.parts[0] in {"build", ".venv"} or "results" in path.parts]


def test_the_wheel_holds_the_package_and_its_manual(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    # which pip puts into share/man of the environment
    files.remove(f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/man/man8/pyruntime.8")
    package = {str(path.relative_to(ROOT)) for pattern in ("*.py", "*.pyi", "py.typed") for path in (ROOT / "pyruntime").rglob(pattern)}
    built = {"pyruntime/_native.abi3.so", f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.data/scripts/pyruntime"}
    assert {name for name in files if not name.split("/")[0].endswith(".dist-info")} == package | built
    assert any(name.endswith("/LICENSE") for name in files)


@pytest.mark.parametrize("version", INTERPRETERS)
def test_the_wheel_in_an_empty_environment_runs_a_container(version: str, wheel: Path, tmp_path: Path) -> None:
    interpreter = empty_environment(tmp_path / "environment", INTERPRETERS[version])
    run(interpreter, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    runs_a_container(interpreter, version, tmp_path / "environment", tmp_path)


@pytest.mark.parametrize(("options", "place"), [((), "environment"), (("-e",), "tree")], ids=["install", "editable"])
def test_pip_install_of_the_tree(options: tuple[str, ...], place: str, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    interpreter = empty_environment(tmp_path / "environment")
    run(interpreter, "-m", "pip", "install", "-q", *options, ".", cwd=tree)
    runs_a_container(interpreter, next(iter(INTERPRETERS)), tmp_path / place, tmp_path)
