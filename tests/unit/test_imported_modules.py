"""What commands import: of a plain `create` in Python, importing is most of the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyruntime.testing import make_bundle

# parts of the standard library that take a millisecond and more, with what they import in turn, and what only features need that few use
DEAR = {"argparse", "asyncio", "ctypes", "dataclasses", "decimal", "gettext", "glob", "inspect", "json", "locale", "logging", "pathlib",
        "platform", "pwd", "selectors", "shutil", "signal", "socket", "string", "subprocess", "tempfile", "termios", "textwrap", "tokenize",
        "traceback", "tty", "urllib", "uuid", "weakref"}
OF_FEATURES = {"google", "jeepney", "prctl", "pyroute2", "pyruntime.checkpoint", "pyruntime.cli.attached", "pyruntime.cli.parser",
               "pyruntime.cli.sockets", "pyruntime.doctor", "pyruntime.handles", "pyruntime.native.hooks", "pyruntime.network",
               "pyruntime.plan.intel_rdt", "pyruntime.plan.net_devices", "pyruntime.plan.outline", "pyruntime.plan.scheduling",
               "pyruntime.runtimes.cli", "pyruntime.runtimes.hints", "pyruntime.runtimes.mock", "pyruntime.runtimes.resctrl",
               "pyruntime.spec.explain"}

# `python -m pyruntime` without the call, and what a creation is made of, which needs no privileges
CREATE = """
import sys
before = set(sys.modules)  # of an editable installation's finder, too
from pyruntime.cli.imports import prepare
prepare()
from pyruntime.cli.arguments import parse_command, parse_global
root, bundle, *arguments = sys.argv[1:]
options, rest = parse_global(arguments)
import pyruntime.cli.main, pyruntime.cli.life_cycle, pyruntime.native.kept, pyruntime.runtimes.kept, pyruntime.runtimes.native
from pyruntime.host import Hierarchy, Host
from pyruntime.plan.compile import Manner
from pyruntime.runtimes.compiled import BundleCache
parse_command(options, rest)
host = Host((6, 1), (Hierarchy("/cg", True),), 2**64 - 1)
assert BundleCache(host, root).open(bundle).plan("c1", root, Manner(finds_program=True)).data
print(*sorted(set(sys.modules) - before))
"""


def imported_by(script: str, *arguments: str) -> set[str]:
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split())


def test_a_plain_create(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", ["/bin/true"])
    line = ["--root", str(tmp_path), "--log", "/log", "--log-format", "json", "create", "--bundle", str(bundle), "--pid-file", "/pid", "c1"]
    found = imported_by(CREATE, str(tmp_path), str(bundle), *line)
    assert {"msgspec", "pyruntime.plan.operations", "pyruntime.native.encoder", "pyruntime.runtimes.creation"} <= found
    assert not found & (DEAR | OF_FEATURES)


@pytest.mark.parametrize(("command", "done_by"), [("list", "pyruntime.runtimes.native"), ("--version", "pyruntime.cli.version")])
def test_commands_that_make_nothing(command: str, done_by: str, tmp_path: Path) -> None:
    script = ("import sys; before = set(sys.modules); from pyruntime.cli.imports import prepare; prepare(); "
              "from pyruntime.cli.main import main; "
              f"main(['--root', {str(tmp_path)!r}, {command!r}]); print(*sorted(set(sys.modules) - before))")
    found = imported_by(script)
    assert done_by in found and not found & (DEAR | OF_FEATURES)
