"""Completion of the command line, as bash, zsh and fish do it: asked of these shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pyruntime.cli import completion
from pyruntime.cli.arguments import COMMANDS
from pyruntime.cli.main import main
from pyruntime.cli.table import table

# what the made-up command answers; it notes how it was called
PROGRAM = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
case "$*" in *--root*) echo other ;; *) echo c1; echo c2; echo web ;; esac
"""
ANSWER_S = 30


def need(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"there is no {shell}")
    return path


class Shell:
    """A directory with a program pyruntime that tells of containers, and with files to complete."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.home = directory / "home"
        for path in (self.bin, self.home / "bundle dir", self.home / "bundles"):
            path.mkdir(parents=True)
        (self.home / "config.log").touch()
        (self.bin / "pyruntime").write_text(PROGRAM)
        (self.bin / "pyruntime").chmod(0o755)
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}

    def script(self, shell: str) -> Path:
        path = self.directory / f"completion.{shell}"
        path.write_text(completion.SCRIPTS[shell]() + "\n")
        return path

    def run(self, *arguments: str) -> str:
        ended = subprocess.run(arguments, cwd=self.home, env=self.environment, capture_output=True, text=True, check=True, timeout=ANSWER_S)
        return ended.stdout

    def calls(self) -> list[str]:
        path = self.bin / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def in_bash(shell: Shell, *lines: list[str]) -> list[list[str]]:
    """What bash has to offer for the last word of each; words as readline parts them, so that a = is one."""
    script = f"source '{shell.script('bash')}'\n"
    for words in lines:
        script += (f"COMP_WORDS=({' '.join(map(_quoted, words))}); COMP_CWORD={len(words) - 1}; _pyruntime; "
                   "printf '%s\\n' \"${COMPREPLY[@]}\" ==\n")
    return _parted(shell.run(need("bash"), "--norc", "-c", script))


def in_fish(shell: Shell, *lines: list[str]) -> list[list[str]]:
    script = f"source '{shell.script('fish')}'\n"
    for words in lines:
        line = " ".join(words).replace("'", "\\'")
        script += f"complete -C'{line}'; echo ==\n"
    return _parted(shell.run(need("fish"), "--no-config", "-c", script))


def _parted(text: str) -> list[list[str]]:
    return [sorted(line.partition("\t")[0] for line in part.splitlines() if line) for part in text.split("==\n")[:-1]]


ASKS = {"bash": in_bash, "fish": in_fish}
NEWS = [f"--{name}" for name in ("no-new-keyring", "no-pivot")]
CASES = [
    (["pyruntime", "ki"], ["kill"]), (["pyruntime", "res"], ["restore", "resume"]), (["pyruntime", "--root", "/r", "sta"], ["start", "state"]),
    (["pyruntime", "--debug", "--log-format", "json", "che"], ["checkpoint"]), (["pyruntime", "--log-format", "j"], ["json"]),
    (["pyruntime", "kill", ""], ["c1", "c2", "web"]), (["pyruntime", "state", "c"], ["c1", "c2"]), (["pyruntime", "exec", "-t", "w"], ["web"]),
    (["pyruntime", "exec", "--user", "0", "w"], ["web"]), (["pyruntime", "kill", "c1", "KI"], ["KILL"]),
    (["pyruntime", "--root", "/r", "kill", ""], ["other"]), (["pyruntime", "delete", "--force", "w"], ["web"]),
    (["pyruntime", "create", "--no"], NEWS), (["pyruntime", "create", "c9", "--no"], NEWS),
    (["pyruntime", "checkpoint", "--manage-cgroups-mode", "s"], ["soft", "strict"]), (["pyruntime", "completion", "f"], ["fish"]),
    (["pyruntime", "--de"], ["--debug"]), (["pyruntime", "update", "--mem"], ["--mem-bw-schema", "--memory", "--memory-reservation",
                                                                              "--memory-swap"]),
    # what has no names to offer: a container that is to be made, a number
    (["pyruntime", "create", ""], []), (["pyruntime", "update", "--pids-limit", ""], []), (["pyruntime", "state", "c1", ""], [])]


@pytest.mark.parametrize("name", ASKS)
def test_what_is_offered(name: str, shell: Shell) -> None:
    found = ASKS[name](shell, *(words for words, _ in CASES))
    assert list(zip([words for words, _ in CASES], found, strict=True)) == CASES


@pytest.mark.parametrize("name", ASKS)
def test_ids_are_asked_of_the_command_where_one_may_stand_and_nowhere_else(name: str, shell: Shell) -> None:
    ASKS[name](shell, ["pyruntime", "--root", "/r", "ps", ""])
    assert shell.calls() == ["--root /r list -q"]
    others = (["ps"], ["create", ""], ["list", "--format", ""], ["exec", "c1", ""], ["--"])
    ASKS[name](shell, *(["pyruntime", *words] for words in others))
    assert shell.calls() == ["--root /r list -q"]


def test_values_behind_an_equals_sign(shell: Shell) -> None:
    """Which parts words in bash."""
    assert in_bash(shell, ["pyruntime", "list", "--format", "=", "j"], ["pyruntime", "list", "--format", "="],
                   ["pyruntime", "--root", "=", "/r", "kill", ""]) == [["json"], ["json", "table"], ["other"]]
    assert in_fish(shell, ["pyruntime", "list", "--format=j"], ["pyruntime", "--root=/r", "kill", ""]) == [["--format=json"], ["other"]]


def test_files_and_directories(shell: Shell) -> None:
    lines = ["pyruntime", "plan", "bun"], ["pyruntime", "create", "--bundle", "b"], ["pyruntime", "--log", "con"]
    assert in_bash(shell, *lines) == [["bundle dir", "bundles"], ["bundle dir", "bundles"], ["config.log"]]
    assert in_fish(shell, *lines) == [["bundle dir/", "bundles/"], ["bundle dir/", "bundles/"], ["config.log"]]


def test_behind_two_dashes_there_are_no_options(shell: Shell) -> None:
    assert in_bash(shell, ["pyruntime", "state", "--", "--"], ["pyruntime", "state", "--", "w"], ["pyruntime", "exec", "c1", "--de"]) == [
        [], ["web"], []]


# a line in, and after a tab what the shell has made of it
LINES = [("pyruntime feat", "pyruntime features "), ("pyruntime kill w", "pyruntime kill web "),
         ("pyruntime list --form", "pyruntime list --format"), ("pyruntime list --format js", "pyruntime list --format json "),
         ("pyruntime --root /r start oth", "pyruntime --root /r start other "),
         ("pyruntime kill web KIL", "pyruntime kill web KILL "), ("pyruntime plan bundles", "pyruntime plan bundles/"),
         ("pyruntime checkpoint --leave", "pyruntime checkpoint --leave-running "), ("pyruntime --log-fo", "pyruntime --log-format")]
INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"],
             "PS1= ; source '{script}'; bind -x '\"\\C-xs\": printf \"<<%s>>\\n\" \"$READLINE_LINE\"'; bind 'set bell-style none'; "
             "echo ready''now\n"),
    "zsh": (["zsh", "-f", "-i"],
            "PS1= RPS1= ; unsetopt prompt_cr prompt_sp beep; autoload -U compinit && compinit -u -D; source '{script}'; "
            "show() {{ print -r -- \"<<$BUFFER>>\" }}; zle -N show; bindkey '^Xs' show; bindkey '^I' complete-word; "
            "bindkey '^U' kill-whole-line; echo ready''now\n")}


class Terminal:
    """A shell that somebody types into."""

    def __init__(self, shell: Shell, name: str) -> None:
        arguments, start = INTERACTIVE[name]
        need(name)
        script = shell.script(name)
        self.pid, self.master = pty.fork()
        if not self.pid:
            try:
                os.chdir(shell.home)
                os.execvpe(arguments[0], arguments, shell.environment)
            finally:
                os._exit(127)
        self._text = ""
        self.type(start.format(script=script))
        self.read_until("readynow")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, end: str) -> str:
        """What was written up to there."""
        due = time.monotonic() + ANSWER_S
        while end not in self._text:
            ready, _, _ = select.select([self.master], [], [], max(0, due - time.monotonic()))
            assert ready, f"no {end!r} in {self._text!r}"
            self._text += os.read(self.master, 65536).decode(errors="replace")
        before, _, self._text = self._text.partition(end)
        return before

    def complete(self, line: str) -> str:
        self.type(f"{line}\t\x18s")
        found = self.read_until(">>").rpartition("<<")[2]
        self.type("\x15")
        return found

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.mark.parametrize("name", INTERACTIVE)
def test_typed_into_a_terminal(name: str, shell: Shell) -> None:
    terminal = Terminal(shell, name)
    try:
        for line, expected in LINES:
            # where a value is to follow, one appends a space and the other a =
            assert terminal.complete(line).rstrip(" =") == expected.rstrip(), line
    finally:
        terminal.close()


@pytest.mark.parametrize("name", completion.SCRIPTS)
def test_the_command_prints_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", name]) == 0
    shown = capfd.readouterr()
    assert shown.out == completion.SCRIPTS[name]() + "\n" and shown.err == "" and re.findall("@[A-Z]+@", shown.out) == []
    assert main(["completion", "tcsh"]) == 1
    assert "invalid choice: 'tcsh'" in capfd.readouterr().err


@pytest.mark.parametrize("name", completion.SCRIPTS)
def test_every_command_and_option_is_in_it(name: str) -> None:
    script = completion.SCRIPTS[name]()
    for row in table():
        assert row.name in script
        for option in row.options:
            for long in (one for one in option.names if one.startswith("--")):
                assert (f"-l {long[2:]} " if name == "fish" else long) in script


def test_the_table_has_all_commands() -> None:
    assert [row.name for row in table()] == ["", *COMMANDS]
    by_name = {row.name: row for row in table()}
    assert [operand.kind for operand in by_name["kill"].operands] == ["container", "signal"]
    assert [operand.kind for operand in by_name["create"].operands] == [""]
    assert by_name["exec"].operands[1].takes_rest and by_name["list"].operands == ()
