"""What is said of one thing that a host has or lacks."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable

import msgspec


class Verdict(enum.StrEnum):
    """Of a host, for the caller: what is limited works in part, or less well."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What was looked at, and what follows from it.

    topic        what it belongs to: `kernel`, `cgroups` ...
    found        what is there, as a fact
    follows      what cannot be done; None where nothing follows
    remedy       a command or a setting; None where there is none, or none is needed
    is_required  whether there are no containers for this caller while it is missing
    """

    topic: str
    name: str
    verdict: Verdict
    found: str
    follows: str | None = None
    remedy: str | None = None
    is_required: bool = False


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether containers can run for the caller."""
    return not any(finding.is_required and finding.verdict is Verdict.MISSING for finding in findings)


class Topic:
    """The findings of one topic, as they are made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []

    def ok(self, name: str, found: str) -> None:
        self.findings.append(Finding(self.name, name, Verdict.OK, found))

    def limited(self, name: str, found: str, follows: str, remedy: str | None = None) -> None:
        self.findings.append(Finding(self.name, name, Verdict.LIMITED, found, follows, remedy))

    def missing(self, name: str, found: str, follows: str, remedy: str | None = None, is_required: bool = False) -> None:
        self.findings.append(Finding(self.name, name, Verdict.MISSING, found, follows, remedy, is_required))


class Sight:
    """The files of a host, below a directory: another one than / is for tests."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def path(self, name: str) -> str:
        return f"{self._root}{name}"

    def read(self, name: str) -> str | None:
        """None for what is not there or cannot be read."""
        try:
            with open(self.path(name), errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def is_writable(self, name: str) -> bool:
        return os.access(self.path(name), os.W_OK, effective_ids=True)

    def names(self, name: str) -> list[str]:
        """Of a directory; empty where there is none."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []
