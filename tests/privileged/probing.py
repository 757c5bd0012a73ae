"""What a container's own process sees: a static program (tests/probe) that is asked from inside, and its answers decoded.

    def test_limits(probe: Probe) -> None:
        assert probe.run("rlimits", process={"rlimits": [...]}).rlimits["RLIMIT_NOFILE"] == (100, 200)
        assert probe.run("syscall:keyctl", linux={"seccomp": profile}).call("keyctl") == "EPERM"

The questions are the rows of the table in tests/probe/probe.c.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from lab import Lab

from pyruntime import StdioOptions

Kind = TypeVar("Kind")
SOURCES = Path(__file__).parents[1] / "probe"
COMPILE = ["musl-gcc", "-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror"]
# musl brings none of the kernel's headers
INCLUDE = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu", "-idirafter", "/usr/include/aarch64-linux-gnu"]
HEADERS = ("linux/capability.h", "asm/resource.h", "asm/unistd.h", "asm/errno.h", "asm/signal.h")
# macros that are names of numbers, not limits or shifts of them
TABLES = {"capability_names": r"(CAP_(?!LAST_CAP)\w+)", "limit_names": r"(RLIMIT_\w+)", "call_names": r"__NR_(\w+)",
          "errno_names": r"(E[A-Z0-9]+)", "signal_names": r"(SIG[A-Z0-9]+)"}


def tables() -> str:
    """The probe's tables of names, from the macros of the kernel's headers."""
    source = "".join(f"#include <{header}>\n" for header in HEADERS)
    macros = subprocess.run(["gcc", "-E", "-dM", "-"], input=source, capture_output=True, text=True, check=True).stdout
    text = ""
    for name, pattern in TABLES.items():
        rows = re.findall(rf"^#define {pattern} (\d+)$", macros, re.MULTILINE)
        assert len(rows) > 10, name
        members = "".join(f'{{"{macro}", {value}}},' for macro, value in rows)
        text += f"const struct name {name}[] = {{{members}{{NULL, 0}}}};\n"
    return text


def compile_probe(directory: Path) -> Path:
    """The program; it needs nothing of a root file system, and /proc for some answers."""
    (directory / "tables.h").write_text(tables())
    program = directory / "probe"
    subprocess.run([*COMPILE, *INCLUDE, f"-I{directory}", "-o", program, *sorted(SOURCES.glob("*.c"))], check=True)
    return program


class Ids(msgspec.Struct, frozen=True):
    """Real, effective, saved and of file systems."""

    uid: tuple[int, int, int, int]
    gid: tuple[int, int, int, int]
    groups: list[int]


class Capabilities(msgspec.Struct, frozen=True):
    bounding: set[str]
    effective: set[str]
    permitted: set[str]
    inheritable: set[str]
    ambient: set[str]


class Identity(msgspec.Struct, frozen=True):
    pid: int
    parent: int
    group: int
    session: int
    death_signal: int


class Keyring(msgspec.Struct, frozen=True):
    """`description` as keyctl(2) has it: type;uid;gid;permissions;name."""

    serial: int
    description: str = ""


class Scheduler(msgspec.Struct, frozen=True):
    """sched_getattr(2), times in nanoseconds."""

    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int


class IoPriority(msgspec.Struct, frozen=True, rename={"io_class": "class"}):
    io_class: int
    level: int


class MemoryPolicy(msgspec.Struct, frozen=True):
    """linux/mempolicy.h: the mode, and the flags that are ored to it."""

    mode: int
    flags: int
    nodes: list[int]


class Descriptor(msgspec.Struct, frozen=True):
    flags: int
    target: str = ""


class Terminal(msgspec.Struct, frozen=True):
    height: int
    width: int
    name: str
    controls: bool


class Uname(msgspec.Struct, frozen=True):
    hostname: str
    domainname: str
    machine: str
    release: str


class Clocks(msgspec.Struct, frozen=True):
    """Nanoseconds."""

    realtime: int
    monotonic: int
    boottime: int


class Mount(msgspec.Struct, frozen=True):
    """A line of mountinfo (proc(5)). `tags` are its propagation: `shared:n`, `master:n`, `unbindable`; none of a private mount."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: frozenset[str]
    tags: frozenset[str]
    type: str
    source: str
    super_options: frozenset[str]

    @property
    def propagation(self) -> frozenset[str]:
        """`shared`, `slave` or both, `unbindable`, or `private`."""
        words = {"shared": "shared", "master": "slave", "unbindable": "unbindable"}
        return frozenset(words[tag.partition(":")[0]] for tag in self.tags if not tag.startswith("propagate_from")) or frozenset({"private"})


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mounts_of(mountinfo: str) -> list[Mount]:
    """Decode the text of a mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        own, of_filesystem = (half.split(" ") for half in line.split(" - ", 1))
        identity, parent, device, root, target, options, *tags = own
        kind, source, super_options = of_filesystem
        found.append(Mount(int(identity), int(parent), device, _unescaped(root), _unescaped(target), frozenset(options.split(",")),
                           frozenset(filter(None, tags)), kind, _unescaped(source), frozenset(super_options.split(","))))
    return found


class Answers:
    """By the question; asking for one that was not put is a KeyError, and for one that failed an AssertionError that says so."""

    def __init__(self, text: str) -> None:
        self.raw: dict[str, Any] = json.loads(text)

    def failure(self, question: str) -> str | None:
        """The errno's name if the question could not be answered."""
        answer = self.raw[question]
        return str(answer["error"]) if isinstance(answer, dict) and set(answer) == {"error"} else None

    def _of(self, question: str, kind: type[Kind]) -> Kind:
        assert self.failure(question) is None, f"{question}: {self.failure(question)}"
        return msgspec.convert(self.raw[question], kind)

    @property
    def ids(self) -> Ids:
        return self._of("ids", Ids)

    @property
    def caps(self) -> Capabilities:
        return self._of("caps", Capabilities)

    @property
    def rlimits(self) -> dict[str, tuple[int, int]]:
        """Soft and hard; 2^64-1 is no limit."""
        return self._of("rlimits", dict[str, tuple[int, int]])

    @property
    def process(self) -> Identity:
        return self._of("process", Identity)

    @property
    def keyring(self) -> Keyring:
        return self._of("keyring", Keyring)

    @property
    def scheduler(self) -> Scheduler:
        return self._of("scheduler", Scheduler)

    @property
    def io_priority(self) -> IoPriority:
        return self._of("io_priority", IoPriority)

    @property
    def affinity(self) -> set[int]:
        return self._of("affinity", set[int])

    @property
    def memory_policy(self) -> MemoryPolicy:
        return self._of("memory_policy", MemoryPolicy)

    @property
    def namespaces(self) -> dict[str, int]:
        """Inode numbers by the name in /proc/self/ns."""
        return self._of("namespaces", dict[str, int])

    @property
    def descriptors(self) -> dict[int, Descriptor]:
        return {int(fd): value for fd, value in self._of("descriptors", dict[str, Descriptor]).items()}

    @property
    def environment(self) -> list[str]:
        return self._of("environment", list[str])

    @property
    def terminal(self) -> Terminal:
        return self._of("terminal", Terminal)

    @property
    def uname(self) -> Uname:
        return self._of("uname", Uname)

    @property
    def clocks(self) -> Clocks:
        return self._of("clocks", Clocks)

    @property
    def mounts(self) -> list[Mount]:
        """In the order that they were made."""
        return mounts_of(self._of("mounts", str))

    def mount(self, target: str) -> Mount:
        """The topmost at a place."""
        return [mount for mount in self.mounts if mount.target == target][-1]

    @property
    def cgroups(self) -> dict[str, str]:
        """Paths by the controllers as /proc/self/cgroup has them, "" for v2."""
        return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in self._of("cgroups", str).splitlines()}

    def number(self, question: str) -> int:
        """no_new_privs, securebits, dumpable, umask, nice, personality, oom_score_adj, seccomp (0 none, 2 filter), filters (how many)."""
        answer = self.raw[question]
        return answer if isinstance(answer, int) else int(self._of(question, str))

    def text(self, question: str) -> str:
        """cwd, uid_map, gid_map, setgroups, time_offsets, apparmor, label, file:PATH, status:NAME; without what is blank at the end."""
        return self._of(question, str).rstrip("\n\0")

    def call(self, name: str) -> str | int:
        """How `syscall:NAME` went: the errno's name, the result, or the name of the signal that ended it."""
        answer = self.raw[f"syscall:{name}"]
        assert "fork" not in answer, f"no process to make {name}: {answer['fork']}"
        value: str | int = next(iter(answer.values()))
        return value


class Probe:
    """Asks in containers of a lab."""

    def __init__(self, lab: Lab, program: Path) -> None:
        self.lab = lab
        shutil.copy(program, lab.rootfs / "bin" / "probe")

    def run(self, *questions: str, id: str = "p1", stdio: StdioOptions | None = None, **changes: Any) -> Answers:
        """Of a container's first process; the container is gone afterwards."""
        return Answers(self.lab.run(["/bin/probe", *questions], id, stdio, **changes))

    def exec(self, *questions: str, id: str = "p1", stdio: StdioOptions | None = None, **process: Any) -> Answers:
        """Of a further process in a running container."""
        return Answers(self.lab.exec(["/bin/probe", *questions], id, stdio, **process))


@pytest.fixture(scope="session")
def probe_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture
def probe(lab: Lab, probe_program: Path) -> Probe:
    return Probe(lab, probe_program)
