"""Command lines read by argparse: help, unusual spellings, and the words for what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from pyruntime.cli.arguments import COMMANDS, UsageError, declare_global
from pyruntime.cli.called import program_name
from pyruntime.cli.plain import BOOLEANS, Options


class Parser(argparse.ArgumentParser):
    """One that raises UsageError, one line that leads on, instead of ending the process."""

    purpose = ""
    _given: Sequence[str] = ()

    def format_help(self) -> str:
        """argparse's, behind the name with what it is for, as in a manual page and in runc's help."""
        return f"NAME:\n  {self.prog} - {self.purpose}\n\n{super().format_help()}"

    def add_argument(self, *names: Any, **how: Any) -> argparse.Action:
        """As argparse. A long option may have one dash too, as with runc; containerd passes `-no-subreaper`. One without a value may have one
        of BOOLEANS behind `=`."""
        action = super().add_argument(*names, **how)
        spellings = [*action.option_strings, *(name[1:] for name in action.option_strings if name.startswith("--"))]
        for spelling in spellings:
            self._option_string_actions.setdefault(spelling, action)
        if isinstance(action, argparse._StoreTrueAction):
            for text, value in BOOLEANS.items():
                stated = argparse._StoreConstAction([], action.dest, value)
                self._option_string_actions.update(dict.fromkeys((f"{spelling}={text}" for spelling in spellings), stated))
        return action

    def read(self, arguments: Sequence[str], options: Options | None = None) -> Options:
        """The options, added to those. Raises UsageError."""
        self._given = arguments
        options = Options() if options is None else options
        before = dict(vars(options))
        _, left = self.parse_known_args(arguments, options)
        if left and not any(_is_option(argument) for argument in left) and not self._has_remainder():
            # options between the operands, which would have to be looked for at every call
            vars(options).clear()
            vars(options).update(before)
            _, left = self.parse_known_intermixed_args(arguments, options)
        if left:
            self._refuse([argument for argument in left if _is_option(argument)] or left)
        return options

    def _has_remainder(self) -> bool:
        return any(action.nargs == argparse.REMAINDER for action in self._actions)

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following"):
            # what was meant to be an option is what is wrong
            options = (argument.partition("=")[0] for argument in self._given if argument.startswith("--") and argument != "--")
            unknown = [option for option in options if option not in self._option_string_actions]
            if unknown:
                self._refuse(unknown)
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        from pyruntime.cli.nearest import nearest  # nothing else needs it

        self.error(f"unrecognized arguments: {' '.join(unknown)}{nearest(unknown[0].partition('=')[0], self._shown_options())}")

    def _shown_options(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]


def _is_option(argument: str) -> bool:
    return argument[:1] == "-" and argument != "-"


def global_parser() -> Parser:
    """Of what comes before the command."""
    program = program_name()
    commands = "\n".join(f"  {name:12}{command.help}" for name, command in COMMANDS.items())
    parser = Parser(program, f"{program} [OPTION ...] COMMAND [ARGUMENT ...]", epilog=f"commands:\n{commands}",
                    formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.purpose = "Open Container Initiative runtime"
    declare_global(parser)
    return parser


def command_parser(name: str) -> Parser:
    """Of one of COMMANDS."""
    command = COMMANDS[name]
    parser = Parser(f"{program_name()} {name}", allow_abbrev=False)
    parser.purpose = command.help
    command.fill(parser)
    return parser
