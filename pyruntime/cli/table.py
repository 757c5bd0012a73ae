"""The commands with their options and operands as a table, read off the parsers: what the completion of shells and the manual are made of."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from pyruntime.cli.arguments import COMMANDS
from pyruntime.cli.parser import Parser, command_parser, global_parser

# what an argument is, by how the help calls it; what is not here is free text
_KINDS = {"FILE": "file", "SOCKET": "file", "DIRECTORY": "directory", "BUNDLE": "directory", "ID": "container", "SIGNAL": "signal",
          "COMMAND": "command"}
# their id is of no container yet
_MAKES = frozenset({"create", "run", "restore", "plan"})


class Option(NamedTuple):
    """names: the long one last; metavar: None where it takes no value; kind: of the value, `words` where only `choices` are allowed."""

    names: tuple[str, ...]
    metavar: str | None
    kind: str
    choices: tuple[str, ...]
    help: str
    is_repeated: bool


class Operand(NamedTuple):
    """takes_rest: it and all behind it."""

    metavar: str
    kind: str
    choices: tuple[str, ...]
    help: str
    is_optional: bool
    takes_rest: bool


class Row(NamedTuple):
    """A command; the name '' is what stands before one."""

    name: str
    help: str
    options: tuple[Option, ...]
    operands: tuple[Operand, ...]


def table() -> tuple[Row, ...]:
    """What stands before a command, and the commands in the order of the help."""
    return (_row("", "An OCI runtime", global_parser()),
            *(_row(name, command.help, command_parser(name)) for name, command in COMMANDS.items()))


def _row(name: str, help: str, parser: Parser) -> Row:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = (_option(parser, name, action) for action in shown if action.option_strings)
    return Row(name, help, tuple(options), tuple(_operand(parser, name, action) for action in shown if not action.option_strings))


def _option(parser: Parser, command: str, action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    choices = tuple(str(choice) for choice in action.choices or ())
    metavar = (action.metavar if isinstance(action.metavar, str) else "|".join(choices) or action.dest.upper()) if takes_value else None
    return Option(tuple(sorted(action.option_strings, key=len)), metavar, _kind(command, metavar, choices), choices, _help(parser, action),
                  isinstance(action, argparse._AppendAction))


def _operand(parser: Parser, command: str, action: argparse.Action) -> Operand:
    metavar, choices = str(action.metavar), tuple(str(choice) for choice in action.choices or ())
    rest = action.nargs == argparse.REMAINDER
    return Operand(metavar, "" if rest else _kind(command, metavar, choices), choices, _help(parser, action), rest or action.nargs == "?", rest)


def _kind(command: str, metavar: str | None, choices: tuple[str, ...]) -> str:
    kind = "words" if choices else _KINDS.get(metavar or "", "")
    return "" if kind == "container" and command in _MAKES else kind


def _help(parser: Parser, action: argparse.Action) -> str:
    return str(parser._get_formatter()._expand_help(action)) if action.help else ""
