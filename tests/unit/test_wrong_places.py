"""What the command line makes of a root and of bundles that are not as they should be: one line, one record, and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyruntime.cli.main import main
from pyruntime.spec.default_config import default_config

EMPTY, NO_JSON, FILE = "empty", "no-json", "a-file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With directories as an interrupted creation, or somebody who writes there, leaves them."""
    path = tmp_path / "root"
    for name in (EMPTY, NO_JSON, "with space", ".hidden"):
        (path / name).mkdir(parents=True)
    path.chmod(0o700)
    (path / NO_JSON / "state.json").write_text("{")
    (path / FILE).touch()
    return path


def call(root: Path, tmp_path: Path, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code, and what was logged."""
    log = tmp_path / "log"
    log.write_text("")
    code = main(["--root", str(root), "--log", str(log), "--log-format", "json", *arguments])
    return code, [json.loads(line) for line in log.read_text().splitlines()]


def entries(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("options", [["-q"], ["--format", "json"], []])
def test_a_list_with_damaged_entries(options: list[str], root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is warned of, and none spoils the rest."""
    before = entries(root)
    code, records = call(root, tmp_path, "list", *options)
    out, err = capfd.readouterr()
    table = "ID  PID  STATUS  BUNDLE  CREATED  OWNER\n"
    assert (code, err) == (0, "") and out == {"-q": "", "--format": "[]\n"}.get("".join(options[:1]), table)
    assert [record["level"] for record in records] == ["warning"] * 3
    assert [[name for name in (EMPTY, NO_JSON, "with space") if f"'{name}'" in record["msg"]] for record in records] == [
        [EMPTY], [NO_JSON], ["with space"]]
    assert entries(root) == before


@pytest.mark.parametrize("command", ["state", "start", "kill", "ps", "pause", "resume", "delete", "events"])
@pytest.mark.parametrize(("id", "said"), [
    (EMPTY, "state.json: it is missing: its creation was interrupted or is under way"), (NO_JSON, "state.json: Input data was truncated"),
    (FILE, ""), ("with space", "invalid container id 'with space'"), ("other", "container 'other' does not exist"), ("", "it is empty"),
    ("..", "it begins with a dot"), ("a/b", "'/' is not one of")])
def test_a_container_that_is_none(command: str, id: str, said: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = entries(root)
    code, records = call(root, tmp_path, command, "--", id)
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith("pyruntime: ") and said in err
    assert [(record["level"], f"pyruntime: {record['msg']}\n") for record in records] == [("error", err)]
    assert entries(root) == before


def bundle_of(tmp_path: Path, what: str) -> str:
    path = tmp_path / "bundle"
    if what == "a file":
        path.touch()
    elif what == "a directory as config.json":
        (path / "config.json").mkdir(parents=True)
    elif what != "missing":
        path.mkdir()
        if what != "no config.json":
            (path / "config.json").write_text(json.dumps(default_config()) if what == "no rootfs" else what)
    return str(path)


@pytest.mark.parametrize("command", ["create", "run", "plan"])
@pytest.mark.parametrize(("what", "said"), [
    ("missing", "the bundle directory does not exist"), ("a file", "the bundle directory is not a directory"),
    ("no config.json", "config.json: cannot be read: ENOENT"), ("a directory as config.json", "it is not a regular file"), ("", "is empty"),
    ("{", "is not JSON"), ("[]", "expected an object"), ('{"ociVersion": "1.0.2"}', "$.root"), ("no rootfs", "does not exist")])
def test_a_bundle_that_is_none(command: str, what: str, said: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, path = entries(root), bundle_of(tmp_path, what)
    arguments = ["plan", path] if command == "plan" else [command, "--bundle", path, "c1"]
    code, records = call(root, tmp_path, *arguments)
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith(f"pyruntime: {path}") and said in err
    assert [record["level"] for record in records] == ["error"] and entries(root) == before


@pytest.mark.parametrize("id", [EMPTY, NO_JSON, FILE])
def test_an_id_that_is_in_use(id: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever it is that has it."""
    before = entries(root)
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(default_config() | {"process": {"args": ["sh"], "cwd": "/"}}))
    code, records = call(root, tmp_path, "create", "--bundle", str(tmp_path), id)
    assert code == 1 and capfd.readouterr().err == f"pyruntime: container '{id}' already exists\n"
    assert [record["level"] for record in records] == ["error"] and entries(root) == before
