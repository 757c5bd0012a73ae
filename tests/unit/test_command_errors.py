"""How a command says that it has failed: one line on standard error, one record in --log, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pyruntime import MockRuntime
from pyruntime.cli.main import main

PYTHON_PROGRAM = Path(sysconfig.get_path("scripts"), "pyruntime-python")


def fail(*arguments: str, code: int = 1, input: str | None = None) -> str:
    """The message, which is told to people and logged alike."""
    log = Path(os.environ["LOG"])
    log.unlink(missing_ok=True)
    ended = subprocess.run([PYTHON_PROGRAM, "--root", f"{log}-root", "--log", str(log), "--log-format", "json", *arguments],
                           capture_output=True, text=True, check=False, input=input)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["level"] == "error" and ended.stderr == f"pyruntime: {record['msg']}\n"
    return str(record["msg"])


@pytest.fixture(autouse=True)
def _log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG", str(tmp_path / "log"))


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["exec", "c1", "true"], 255, "container 'c1' does not exist"),
    (["exec", "--process", "/", "c1"], 255, "'/': EISDIR: is a directory"),
    (["exec", "--process", "/no/file", "c1"], 255, "'/no/file': ENOENT: no such file or directory"),
    (["checkpoint", "c1"], 1, "container 'c1' does not exist"),
    (["checkpoint", "--page-server", "here", "c1"], 1, "--page-server 'here' is not of the form ADDRESS:PORT"),
    (["restore", "--bundle", "/no/bundle", "c1"], 1, "/no/bundle: the bundle directory does not exist"),
    (["restore", "--empty-ns", "pid", "c1"], 1, "--empty-ns 'pid': only a network namespace can be left empty"),
    (["spec", "--bundle", "/no/directory"], 1, "'/no/directory/config.json': ENOENT: no such file or directory"),
    (["spec", "--bundle", "/dev/null"], 1, "'/dev/null/config.json': ENOTDIR: not a directory"),
    (["plan", "/no/bundle"], 1, "/no/bundle: the bundle directory does not exist"),
    (["update", "--resources", "/no/file", "c1"], 1, "'/no/file': ENOENT: no such file or directory"),
    (["events", "c1"], 1, "container 'c1' does not exist"),
    (["doctor", "--format", "xml"], 1, "invalid choice: 'xml'"), (["features", "more"], 1, "unrecognized arguments: more"),
    (["completion", "tcsh"], 1, "invalid choice: 'tcsh'"), (["fly"], 3, "no command 'fly'")])
def test_one_line_and_one_record(arguments: list[str], code: int, said: str) -> None:
    assert said in fail(*arguments, code=code)


@pytest.mark.parametrize(("arguments", "code"), [
    (["state", "c\n1"], 1), (["exec", "c\n1", "true"], 255), (["create", "--bundle", "/no\nbundle", "c1"], 1),
    (["run", "--bundle", "/no\n\x1b[31mbundle\x7f", "c1"], 1), (["spec", "--bundle", "/no\nbundle"], 1), (["fly\nhigh"], 3),
    (["state", "--fa\nst", "c1"], 1), (["exec", "--process", "/no\nfile", "c1"], 255), (["list", "--format", "a\nb"], 1),
    (["plan", "/no\nbundle"], 1)])
def test_what_ends_a_line_is_escaped(arguments: list[str], code: int) -> None:
    """And what a terminal would take for its own."""
    said = fail(*arguments, code=code)
    assert "\\n" in said and said.isprintable()


@pytest.mark.parametrize("config", ["[" * 100_000, '{"process": ' * 100_000, "\0", '{"ociVersion": 1e999}', '{"ociVersion": "\\ud800"}'],
                         ids=["lists", "objects", "NUL", "number", "surrogate"])
def test_a_config_that_is_hard_to_read(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "rootfs").mkdir()
    assert fail("create", "--bundle", str(tmp_path), "c1").startswith(f"{tmp_path}/config.json: ")
    (tmp_path / "process.json").write_text(config)
    assert fail("exec", "--process", str(tmp_path / "process.json"), "c1", code=255).startswith(f"{tmp_path}/process.json: ")


def test_arguments_that_are_not_utf8(tmp_path: Path) -> None:
    for arguments in ([b"state", b"\xff"], [b"create", b"--bundle", b"/\xff", b"c1"], [b"exec", b"--env", b"A=\xff", b"c1", b"true"]):
        ended = subprocess.run([os.fsencode(PYTHON_PROGRAM), b"--root", os.fsencode(tmp_path / "root"), *arguments], capture_output=True,
                               check=False)
        assert ended.returncode in (1, 255) and ended.stderr.count(b"\n") == 1 and ended.stderr.startswith(b"pyruntime: "), ended


class Broken(MockRuntime):
    """With a mistake in it."""

    def get_container_state(self, id: str) -> Any:
        raise KeyError("a name\nthat is missing")


def test_a_mistake_of_our_own_is_told_like_all_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    words = ["--log", str(log), "--log-format", "json", "state", "c1"]
    assert main(words, lambda options: Broken()) == 1  # type: ignore[arg-type,return-value]
    (record,) = map(json.loads, log.read_text().splitlines())
    assert capfd.readouterr().err == f"pyruntime: {record['msg']}\n"
    assert record["msg"] == "internal error: KeyError: 'a name\\nthat is missing' (--debug tells where)"
    assert main(["--debug", *words], lambda options: Broken()) == 1  # type: ignore[arg-type,return-value]
    assert "get_container_state" in log.read_text()


@pytest.mark.parametrize(("path", "said"), [
    ("/no/directory/log", "open log '/no/directory/log': ENOENT: no such file or directory"), ("/", "open log '/': EISDIR: is a directory"),
    ("/dev/null/log", "open log '/dev/null/log': ENOTDIR: not a directory")])
def test_a_log_that_cannot_be_opened(path: str, said: str, tmp_path: Path) -> None:
    """Nothing is done without it, as with runc."""
    ended = subprocess.run([PYTHON_PROGRAM, "--log", path, "spec", "--bundle", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"pyruntime: {said}\n") and list(tmp_path.iterdir()) == []


def test_a_log_and_a_standard_error_that_are_full(tmp_path: Path) -> None:
    """Keep the command from nothing, and the exit code is that of the error."""
    for redirection in ("", "2>/dev/full"):
        ended = subprocess.run(["sh", "-c", f'"$0" --log /dev/full --root {tmp_path}/root exec c1 true {redirection}', PYTHON_PROGRAM],
                               capture_output=True, text=True, check=False)
        assert ended.returncode == 255 and "Traceback" not in ended.stderr
        assert ended.stderr == ("" if redirection else f"pyruntime: container 'c1' does not exist under '{tmp_path}/root'\n")


def test_an_empty_name_is_no_log(tmp_path: Path) -> None:
    """As with runc: errors are on standard error alone."""
    ended = subprocess.run([PYTHON_PROGRAM, "--log", "", "--root", str(tmp_path / "root"), "state", "c1"], capture_output=True, text=True,
                           check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (1, f"pyruntime: container 'c1' does not exist under '{tmp_path}/root'\n")


@pytest.mark.parametrize(("name", "code"), [("exec-failed", 255), ("run-failed", 1)])
def test_what_the_front_end_cannot_hand_over(name: str, code: int) -> None:
    """It is too late to do the command again: Python is told what has failed."""
    assert fail(name, "--object=/a\n'b", "write pid file", "21", code=code) == "write pid file \"/a\\n'b\": EISDIR: is a directory"
    assert fail(name, "--object=-f", "write pid file", "13", code=code) == "write pid file '-f': EACCES: permission denied"
    # and nobody else has such a command
    for others in ([], ["write pid file"], ["--object=/a", "write pid file", "many"]):
        assert fail(name, *others, code=3).startswith(f"no command '{name}'")
    assert fail(name, "-h", code=3).startswith(f"No help topic for '{name}'")


def test_the_help_names_the_program_as_it_was_called(tmp_path: Path) -> None:
    program = PYTHON_PROGRAM.with_name("pyruntime")
    (tmp_path / "pyruntime-python").symlink_to(PYTHON_PROGRAM)
    for name in ("runc", "pyruntime"):
        shutil.copy(program, tmp_path / name)
        for words, begins in ((["-h"], f"{name} - Open Container Initiative runtime\n\nusage: {name} [OPTION ...]"),
                              (["kill", "--help"], f"{name} kill - send a signal to a container's first process\n\nusage: {name} kill ")):
            shown = subprocess.run([tmp_path / name, *words], capture_output=True, text=True, check=True).stdout
            assert shown.startswith(f"NAME:\n  {begins}")


@pytest.mark.parametrize("arguments", [["features"], ["help"], ["completion", "bash"]])
def test_what_nobody_reads_any_more_ends_the_command_in_silence(arguments: list[str]) -> None:
    """By the signal, as it ends runc in a pipe to head(1)."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([PYTHON_PROGRAM, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([PYTHON_PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 1 and ended.stderr.endswith(b"no space left on device\n")
