"""Command lines as programs write them: options in their exact spelling, each with its value behind it, then the operands.

What else argparse reads, and all that is wrong, is argparse's; to import it and make its parsers would take a tenth of a command's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace as Options
from typing import Any

__all__ = ["BOOLEANS", "REST", "Declarations", "Options"]

REST = "..."  # argparse.REMAINDER
# what may stand behind `=` of an option without a value, as Go has it
BOOLEANS = {**dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True), **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)}


class _Argument:
    """An option or an operand, as `add_argument` is told of it."""

    def __init__(self, names: Sequence[str], how: dict[str, Any]) -> None:
        long = next((name for name in names if name.startswith("--")), names[0])
        self.destination: str = how.get("dest") or long.lstrip("-").replace("-", "_")
        self.action: str = how.get("action", "store")
        self.nargs: str | None = how.get("nargs")
        self._type: Callable[[str], Any] | None = how.get("type")
        self._choices: Sequence[Any] | None = how.get("choices")
        default = how.get("default", False if self.action == "store_true" else None)
        self.default: Any = self.value(default) if isinstance(default, str) else default

    def value(self, text: str) -> Any:
        """Raises ValueError, and what the type raises."""
        value = text if self._type is None else self._type(text)
        if self._choices is not None and value not in self._choices:
            raise ValueError(text)
        return value


class Declarations:
    """What may stand on a command line: takes what an argparse parser is told, as far as it is told here."""

    def __init__(self) -> None:
        self.options: dict[str, _Argument] = {}
        self.operands: list[_Argument] = []
        self._defaults: dict[str, Any] = {}

    def add_argument(self, *names: str, **how: Any) -> None:
        """See argparse."""
        argument = _Argument(names, how)
        if names[0].startswith("-"):
            self.options.update(dict.fromkeys(names, argument))
        else:
            self.operands.append(argument)

    def set_defaults(self, **defaults: Any) -> None:
        """See argparse."""
        self._defaults.update(defaults)

    def read(self, arguments: Sequence[str], options: Options) -> bool:
        """Add what is on the line to the options. False, with nothing added: it is for argparse to read, or to refuse."""
        try:
            values = self._values(arguments)
        except Exception:  # argparse says what is wrong with a value
            return False
        if values is None:
            return False
        defaults = {argument.destination: argument.default for argument in (*self.options.values(), *self.operands)}
        vars(options).update({**defaults, **self._defaults, **vars(options), **values})
        return True

    def _values(self, arguments: Sequence[str]) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        at = 0
        while at < len(arguments) and arguments[at].startswith("-"):
            name, equals, text = arguments[at].partition("=")
            option = self.options.get(name)
            at += 1
            if option is None or (equals and not (text and name.startswith("--"))):
                return None
            if option.action == "store_true":
                values[option.destination] = BOOLEANS[text] if equals else True
                continue
            if not equals:
                if at == len(arguments) or arguments[at].startswith("-"):
                    return None
                text = arguments[at]
                at += 1
            value = option.value(text)
            if option.action == "append":
                value = [*values.get(option.destination, option.default), value]
            values[option.destination] = value
        return self._with_operands(values, arguments[at:])

    def _with_operands(self, values: dict[str, Any], rest: Sequence[str]) -> dict[str, Any] | None:
        for operand in self.operands:
            if rest and rest[0].startswith("-"):
                return None
            if operand.nargs == REST:
                values[operand.destination] = list(rest)
                rest = ()
            elif rest:
                values[operand.destination] = operand.value(rest[0])
                rest = rest[1:]
            elif operand.nargs != "?":
                return None
        return None if rest else values
