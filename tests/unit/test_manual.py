"""The manual page, and the help of the commands that it is made of."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pyruntime.cli.arguments import COMMANDS, parse_command, parse_global
from pyruntime.cli.manual import EXAMPLES, MORE, manual
from pyruntime.cli.parser import command_parser, global_parser
from pyruntime.cli.table import table

PAGE = Path(__file__).parents[2] / "docs" / "pyruntime.8"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == manual(), "make manual"


@pytest.mark.parametrize("arguments", [["groff", "-man", "-ww", "-z", "-Tutf8"], ["man", "--warnings=w", "-l"]], ids=lambda value: value[0])
def test_it_is_set_without_a_warning(arguments: list[str]) -> None:
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"there is no {arguments[0]}")
    environment = {"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    told = subprocess.run([*arguments, str(PAGE)], capture_output=True, text=True, check=True, env=environment)
    assert told.stderr == ""
    if arguments[0] == "man":
        shown = re.sub(".\b", "", told.stdout)
        assert shown.startswith("PYRUNTIME(8)") and "pyruntime - makes and runs OCI containers" in shown
        assert "source <(pyruntime completion bash)" in shown and "'" in shown


def test_a_warning_would_be_seen() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff")
    told = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=manual().replace(".SH FILES", ".SX FILES"), capture_output=True,
                          text=True, check=False)
    assert "SX" in told.stderr


def test_all_commands_and_options_are_in_it() -> None:
    page = PAGE.read_text().replace("\\-", "-")
    headings = re.findall(r"^\.S[HS] (.+)$", page, re.MULTILINE)
    assert headings[:5] == ["NAME", "SYNOPSIS", "DESCRIPTION", "GLOBAL OPTIONS", "COMMANDS"]
    assert headings[5:] == [*COMMANDS, "help", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"]
    for row in table():
        section = page if not row.name else page.split(f".SS {row.name}\n")[1].split("\n.SS ")[0]
        for option in row.options:
            assert "--help" in option.names or f"\\fB{option.names[-1]}\\fR" in section
    assert set(MORE) <= set(COMMANDS)


def test_its_examples_are_command_lines() -> None:
    own = [line for _, lines in EXAMPLES for line in lines if line.startswith("pyruntime ")]
    assert len(own) > 8
    for line in own:
        words = shlex.split(re.split(r"[|<>]", line)[0].removesuffix(" 2"))
        options, rest = parse_global(words[1:])
        parse_command(options, rest)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_option_says_what_it_does(command: str) -> None:
    """In what unit, and what holds without it."""
    parser = command_parser(command) if command else global_parser()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        name = "/".join(action.option_strings) or action.dest
        assert action.help and len(action.help) > 8, name
        shown = parser._get_formatter()._expand_help(action)
        if action.nargs != 0 and action.option_strings:
            assert action.metavar or action.choices, f"{name}: nothing says what its value is"
        if action.nargs != 0 and action.default not in (None, [], argparse.SUPPRESS) and action.option_strings:
            assert "by default" in shown or f"{action.default}" in shown or "of no effect" in shown, f"{name}: {shown}"
            assert action.default != 0 or "by default 0" in shown


@pytest.mark.parametrize(("command", "options"), [
    # what runc has besides --help; exec and the others are called with these by engines
    ("", "--debug --log --log-format --root --systemd-cgroup --rootless --version"),
    ("create", "--bundle --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds"),
    ("run", "--bundle --console-socket --pidfd-socket --detach --keep --pid-file --no-subreaper --no-pivot --no-new-keyring --preserve-fds"),
    ("exec", "--console-socket --pidfd-socket --cwd --env --tty --user --additional-gids --process --detach --pid-file --process-label "
             "--apparmor --no-new-privs --cap --preserve-fds --cgroup --ignore-paused"),
    ("checkpoint", "--image-path --work-path --parent-path --leave-running --tcp-established --tcp-skip-in-flight --link-remap --ext-unix-sk "
                   "--shell-job --lazy-pages --status-fd --page-server --file-locks --pre-dump --manage-cgroups-mode --empty-ns --auto-dedup"),
    ("restore", "--console-socket --image-path --work-path --tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode "
                "--bundle --detach --pid-file --no-subreaper --no-pivot --empty-ns --auto-dedup --lazy-pages --lsm-profile "
                "--lsm-mount-context"),
    ("update", "--resources --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpuset-cpus "
               "--cpuset-mems --memory --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema --cpu-idle"),
    ("kill", "--all"), ("delete", "--force"), ("list", "--format --quiet"), ("ps", "--format"), ("events", "--interval --stats"),
    ("spec", "--bundle --rootless")])
def test_all_that_runc_has(command: str, options: str) -> None:
    (row,) = [row for row in table() if row.name == command]
    assert set(options.split()) <= {name for option in row.options for name in option.names}
