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


def run(script: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout


def imported_by(script: str, *arguments: str) -> set[str]:
    return set(run(script, *arguments).splitlines()[-1].split())


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


def test_a_program_has_modules_as_they_are() -> None:
    """Also those that msgspec was imported without, once somebody else imports them."""
    assert run("from pyruntime.cli.imports import prepare; prepare()\n"
               "import importlib, decimal, typing_extensions, uuid, msgspec, msgspec.inspect\n"
               "import pyruntime.plan.compile as module\n"
               "assert decimal.Decimal('0.5') * 2 == 1 and typing_extensions.TypedDict and uuid.uuid4() != uuid.uuid4()\n"
               "assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()\n"
               "assert importlib.reload(module) is module and module.__file__.endswith('plan/compile.py')\n"
               "try:\n    import pyruntime.nothing\nexcept ModuleNotFoundError as error:\n    print(error)"
               ) == "No module named 'pyruntime.nothing'\n"


@pytest.mark.parametrize("needed", ["uuid.uuid4", "decimal.Context", "typing_extensions.TypedDict"])
def test_another_msgspec_may_need_what_this_one_is_spared(tmp_path: Path, needed: str) -> None:
    module, name = needed.split(".")
    (tmp_path / "msgspec").mkdir()
    (tmp_path / "msgspec" / "__init__.py").write_text(f"from msgspec import part\nfrom {module} import {name} as found\n")
    (tmp_path / "msgspec" / "part.py").write_text("")
    assert run("import sys; sys.path.insert(0, sys.argv[1])\nfrom pyruntime.cli.imports import prepare; prepare()\n"
               f"import msgspec, {needed.split('.')[0]}\nassert msgspec.found is {needed}\nprint(msgspec.__file__)",
               str(tmp_path)) == f"{tmp_path}/msgspec/__init__.py\n"
