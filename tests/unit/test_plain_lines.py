"""What is read without argparse is read as argparse reads it, and what is not plain is left to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pyruntime.cli.arguments import COMMANDS, declare_global
from pyruntime.cli.parser import command_parser, global_parser
from pyruntime.cli.plain import Declarations, Options

VALUES = {"--interval": "1m30s", "--status-fd": "5"}
OPERANDS = {"create": ["c1"], "kill": ["c1", "KILL"], "exec": ["c1", "sh", "-c", "ls"], "plan": [], "list": [], "spec": [], "features": [],
            "doctor": [], "completion": ["zsh"], "ps": ["c1", "aux"]}


def declared(command: str) -> Declarations:
    """What may stand behind a command; '' is what stands before one."""
    found = Declarations()
    fill = COMMANDS[command].fill if command else declare_global
    fill(found)  # type: ignore[arg-type]
    return found


def lines() -> Iterator[tuple[str, list[str]]]:
    """Each option in each form, by itself, twice, and all of them at once."""
    for command in ("", *COMMANDS):
        operands = OPERANDS.get(command, ["c1"]) if command else []
        yield command, operands
        everything: list[str] = []
        for name, option in declared(command).options.items():
            choices = option._choices
            value = VALUES.get(name, choices[-1] if choices else "7")
            takes_value, is_long = option.action != "store_true", name.startswith("--")
            forms = [[name, value] if takes_value else [name]]
            forms += [[f"{name}={text}"] for text in ([value] if takes_value else ["1", "false"]) if is_long]
            for form in forms:
                yield command, [*form, *operands]
                yield command, [*form, *form, *operands]
            everything += forms[0]
        yield command, [*everything, *operands]


def by_argparse(command: str, line: list[str]) -> dict[str, Any]:
    return vars((command_parser(command) if command else global_parser()).read(line, Options()))


@pytest.mark.parametrize(("command", "line"), list(lines()), ids=lambda part: " ".join(part) if isinstance(part, list) else part)
def test_read_as_argparse_reads_it(command: str, line: list[str]) -> None:
    options = Options()
    assert declared(command).read(line, options)
    assert vars(options) == by_argparse(command, line)


@pytest.mark.parametrize(("command", "line"), [
    ("create", ["c1", "--bundle", "/b"]), ("create", ["-bundle", "/b", "c1"]), ("create", ["--", "c1"]), ("create", ["-b/b", "c1"]),
    ("create", ["-b=/b", "c1"]), ("create", ["--bundle=", "c1"]), ("exec", ["c1", "--", "ls"]), ("exec", ["-dt", "c1", "ls"]),
    ("kill", ["c1", "-a", "9"]), ("update", ["-r", "-", "c1"]), ("exec", ["-d", "c1", "-d"])])
def test_what_is_left_to_argparse(command: str, line: list[str]) -> None:
    """And which it reads."""
    options = Options()
    assert not declared(command).read(line, options) and vars(options) == {}
    by_argparse(command, line)


@pytest.mark.parametrize(("command", "line"), [
    ("create", []), ("create", ["c1", "c2"]), ("create", ["--bundle"]), ("create", ["--bundle", "--no-pivot", "c1"]),
    ("create", ["--bund", "/b", "c1"]),    ("create", ["--preserve-fds", "many", "c1"]), ("create", ["--preserve-fds", "-1", "c1"]),
    ("create", ["--no-pivot=2", "c1"]),    ("list", ["-f", "yaml"]), ("completion", ["tcsh"]), ("kill", ["--help"]),
    ("", ["--rootless", "maybe"]), ("", ["--debug=maybe"]), ("create", ["-d=1", "c1"])])
def test_what_is_refused_is_left_to_argparse(command: str, line: list[str]) -> None:
    options = Options()
    assert not declared(command).read(line, options) and vars(options) == {}


def test_what_is_there_is_not_covered_by_a_default() -> None:
    options = Options(root="/r", bundle="/given")
    assert declared("create").read(["c1"], options) and (options.root, options.bundle, options.id) == ("/r", "/given", "c1")


def test_argparse_is_not_imported() -> None:
    script = ("import sys; from pyruntime.cli.arguments import parse_command, parse_global\n"
              "options, rest = parse_global(['--log', '/l', '--log-format', 'json', '--systemd-cgroup', 'create', '--bundle', '/b', 'c1'])\n"
              "parse_command(options, rest); print(options.id, options.preserve_fds, 'argparse' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "c1 0 False\n"
