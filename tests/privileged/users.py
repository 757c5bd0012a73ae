"""A user without privileges: uid and gid of nobody else, directories of its own, and what it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyruntime.spec.default_config import rootless_config
from pyruntime.testing.bundles import make_rootfs, merge
from pyruntime.testing.snapshot import HostSnapshot

UID, GID = 48721, 48722
NAME = "pyruntime-test"
FIRST_ID, IDS = 3_000_000, 65536
COMMAND = f"{sysconfig.get_path('scripts')}/pyruntime"
TIMEOUT_S = 60
RANGES = {name: [{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": FIRST_ID, "size": IDS}]
          for name, own in (("uidMappings", UID), ("gidMappings", GID))}
# what the scripts of tests begin with
PRELUDE = """
import json, os, signal, sys
from pyruntime import NativeRuntime, StdioOptions
from pyruntime.errors import *
rt = NativeRuntime()
bundle = sys.argv[1]
def read(id, pid):
    out, data = rt.get_stdio_pipes(id, pid).out, b""
    while True:
        try:
            chunk = os.read(out.fileno(), 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    return data.decode()
def run(script, id="c1", **process):
    pid = rt.exec_process(id, {"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], **process}, StdioOptions(create_out=True))
    text = read(id, pid)
    assert rt.wait_on_process(id, pid).exit_code == 0, text
    rt.delete_process(id, pid)
    return text
"""


class User:
    """Its directory has `state` for $XDG_RUNTIME_DIR, a root file system, and bundles."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime_directory = directory / "state"
        self.root = self.runtime_directory / "pyruntime"
        self.rootfs = make_rootfs(directory / "rootfs")
        self.runtime_directory.mkdir(mode=0o700)
        self._bundles = 0
        self.own(directory)

    @staticmethod
    def own(directory: Path) -> None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, UID, GID, follow_symlinks=False)

    def bundle(self, script: str | list[str], **changes: Any) -> str:
        self._bundles += 1
        path = self.directory / f"bundle{self._bundles}"
        path.mkdir()
        config = rootless_config(UID, GID)
        config["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", script] if isinstance(script, str) else script}
        config["root"]["path"] = str(self.rootfs)
        merge(config, changes)
        (path / "config.json").write_text(json.dumps(config))
        self.own(path)
        return str(path)

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": str(self.runtime_directory), **variables}

    def run(self, *arguments: str, wrapper: tuple[str, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        """wrapper: a program that root runs and that becomes the user (see with_ranges)."""
        options = {"stdin": subprocess.DEVNULL, "env": self.environment(), "cwd": self.directory, **options}
        if not wrapper:
            options |= {"user": UID, "group": GID, "extra_groups": []}
        return subprocess.run([*wrapper, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S, **options)

    def python(self, script: str, *arguments: str, **options: Any) -> str:
        """What a script prints; it begins with PRELUDE."""
        ended = self.run(sys.executable, "-c", PRELUDE + script, *arguments, **options)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(COMMAND, *arguments, **options)

    def succeed(self, *arguments: str, **options: Any) -> str:
        ended = self.command(*arguments, **options)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def fail(self, *arguments: str, **options: Any) -> str:
        ended = self.command(*arguments, **options)
        assert ended.returncode == 1 and ended.stdout == "", ended
        return ended.stderr

    def detach(self, *arguments: str, **options: Any) -> None:
        """Succeed, with the null device for what outlives the command."""
        subprocess.run([COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                       timeout=TIMEOUT_S, env=self.environment(), cwd=self.directory, user=UID, group=GID, extra_groups=[], **options)

    def with_ranges(self, subuid: str | None = None, subgid: str | None = None) -> tuple[str, ...]:
        """A wrapper: the user has a name, and these files, in copies that nobody else sees."""
        line = f"{NAME}:{FIRST_ID}:{IDS}\n"
        files = {"passwd": f"root:x:0:0::/root:/bin/sh\n{NAME}:x:{UID}:{GID}::/:/bin/sh\n", "group": f"root:x:0:\n{NAME}:x:{GID}:\n",
                 "subuid": line if subuid is None else subuid, "subgid": line if subgid is None else subgid}
        script = "set -e; "
        for name, text in files.items():
            (self.directory / name).write_text(text)
            script += f"mount --bind {self.directory}/{name} /etc/{name}; "
        return ("unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh", "setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups")


def processes_of(uid: int) -> list[str]:
    """Command names of what has a uid, or is not waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(uid) in fields["Uid"].split() and not fields["State"].startswith("Z"):
            found.append(fields["Name"])
    return found


@pytest.fixture
def user() -> Iterator[User]:
    """Asserts that nothing of the user's runs afterwards, and that the host's mounts are as before."""
    # not below pytest's own, which every pytest that begins closes to others
    directory = Path(tempfile.mkdtemp(prefix="pyruntime-user-"))
    directory.chmod(0o755)
    made = User(directory)
    before = HostSnapshot.take()
    yield made
    if made.root.exists():
        for entry in made.root.iterdir():
            if entry.name != ".filters":
                made.succeed("delete", "--force", entry.name)
        left = [str(path) for path in made.root.rglob("*") if ".filters" not in path.parts]
        assert left == [], left  # told here, because pytest does not rewrite this module
    assert processes_of(UID) == []
    differences = [line for line in HostSnapshot.take().differences(before) if " cgroups: " not in line]
    assert differences == [], differences
    shutil.rmtree(directory)
