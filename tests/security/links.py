"""Links that an image may hold, and where in the container they lead."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks import Attack

from pyruntime.errors import SetupError
from pyruntime.testing.bundles import default_config

# what stands in the link, and where that is in the container; None: nowhere, resolving it is ELOOP
LINKS: dict[str, tuple[Callable[[Path], str], Callable[[Path], str | None]]] = {
    "absolute": (str, str),
    "dotdot": (lambda canary: "../" * 40 + str(canary).lstrip("/"), str),
    "host_root": (lambda canary: "/../../../..", lambda canary: "/"),
    "dangling": (lambda canary: "/does/not/exist", lambda canary: "/does/not/exist"),
    "dangling_in_canary": (lambda canary: f"{canary}/new", lambda canary: f"{canary}/new"),
    "loop": (lambda canary: "/looping", lambda canary: None),
    "magic": (lambda canary: f"/proc/1/root{canary}", lambda canary: None),
    "magic_cwd": (lambda canary: "/proc/self/cwd/../../../..", lambda canary: None),
}
MOUNTINFO = ["/bin/cat", "/proc/self/mountinfo"]


def put_link(attack: Attack, name: str, link: str, aim: Path | None = None) -> str | None:
    """Put the link at `name` of the image; returns where in the container it leads. aim: on the host, by default the canary."""
    text, lands = LINKS[link]
    attack.replace(name, text(aim or attack.canary))
    if link == "loop":
        attack.replace("looping", f"/{name}")
    return lands(aim or attack.canary)


def mounts_without(*destinations: str, add: tuple[dict[str, Any], ...] = ()) -> list[dict[str, Any]]:
    """The default mounts, changed."""
    return [mount for mount in default_config()["mounts"] if mount["destination"] not in destinations] + list(add)


def in_image(attack: Attack, path: str) -> Path:
    """A path of the container on the host."""
    return attack.rootfs / path.lstrip("/")


def below(directory: str, *names: str) -> str:
    """Joined, also below the root."""
    return "/".join((directory.rstrip("/"), *names)) or "/"


def mounted(outcome: SetupError | tuple[int, str]) -> list[tuple[str, str, str, str]]:
    """The container's mountinfo: mount point, type, source, and the path in the file system that is mounted; proc(5)."""
    assert not isinstance(outcome, SetupError), outcome
    code, text = outcome
    assert code == 0, text
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        kind, source, _ = tail.split(" ", 2)
        found.append((head.split()[4], kind, source, head.split()[3]))
    return found


def assert_refused(outcome: SetupError | tuple[int, str], step: str, path: str | None, errno_name: str, json_path: str | None) -> None:
    """That very step failed for that reason."""
    assert isinstance(outcome, SetupError), outcome
    assert (outcome.step, outcome.path, outcome.errno_name, outcome.json_path) == (step, path, errno_name, json_path), outcome


def assert_is_device(path: Path, kind: Callable[[int], bool], number: int) -> None:
    """A node, itself and not through a link."""
    found = path.lstat()
    assert kind(found.st_mode) and (stat.S_ISFIFO(found.st_mode) or found.st_rdev == number), path
