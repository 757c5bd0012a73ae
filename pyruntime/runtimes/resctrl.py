"""Groups of the resctrl file system: made for a container, and removed with it (config-linux.md "IntelRdt")."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from pyruntime.errors import SetupError
from pyruntime.native import files
from pyruntime.plan.intel_rdt import PATH, ResctrlGroup, has_schema
from pyruntime.state.record import ResctrlRecord


class ResctrlGroups:
    """What of a container's groups has been made."""

    def __init__(self, group: ResctrlGroup) -> None:
        self._group = group
        self._made: list[str] = []

    def make(self, note: Callable[[tuple[str, ...]], None]) -> ResctrlRecord:
        """The groups, with what config.json says of them. Raises SetupError; `undo` then takes back what was made.

        note   is told before which are going to be removed with the container
        """
        group = self._group
        kept = {group.path} if group.has_name else set()
        note(tuple(path for path in reversed(group.paths) if path not in kept and not os.path.isdir(path)))
        if group.must_exist:
            if not os.path.isdir(group.path):
                raise SetupError("find resctrl group", group.path, errno.ENOENT, group.json_path, "nothing is said of how to make it")
        elif not self._make(group.path, group.json_path, may_exist=True) and group.has_name:
            self._compare()
        self.write_schemas()
        if group.monitoring_path is not None:
            self._make(group.monitoring_path, f"{PATH}.enableMonitoring", may_exist=False)
        return ResctrlRecord(group.paths, tuple(path for path in reversed(self._made) if path not in kept))

    @property
    def root(self) -> str:
        """Of the file system, which is the group of who is in no other."""
        return self._group.root

    def write_schemas(self) -> None:
        """Raises SetupError."""
        for schema in self._group.schemas:
            self.write(schema.text, schema.json_path)

    def undo(self) -> None:
        """Remove what was made, unless another container has joined it meanwhile."""
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                if not files.read(f"{path}/tasks").strip():
                    _remove_directory(path)

    def _make(self, path: str, json_path: str, *, may_exist: bool) -> bool:
        """Whether it is new."""
        try:
            _make_directory(path)
        except OSError as error:
            if error.errno == errno.EEXIST and may_exist and os.path.isdir(path):
                return False
            raise self._failure("make resctrl group", path, error, json_path) from error
        self._made.append(path)
        return True

    def _compare(self) -> None:
        compared = [schema for schema in self._group.schemas if schema.is_compared]
        if not compared:
            return
        path = f"{self._group.path}/schemata"
        try:
            schemata = files.read(path).decode(errors="replace")
        except OSError as error:
            raise SetupError("read schemata", path, error.errno or 0, self._group.json_path) from error
        for schema in compared:
            if not has_schema(schema.text, schemata, self._bandwidth_step()):
                there = "; ".join(line.strip() for line in schemata.splitlines())
                raise SetupError("compare schemata", path, 0, schema.json_path, f"the group exists and has {there!r}, not {schema.text!r}")

    def _bandwidth_step(self) -> int:
        try:
            return max(1, int(files.read(f"{self._group.root}/info/MB/bandwidth_gran")))
        except (OSError, ValueError):
            return 1

    def write(self, text: str, json_path: str) -> None:
        """At once. Raises SetupError."""
        path = f"{self._group.path}/schemata"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, f"{text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure("write schemata", path, error, json_path) from error

    def _failure(self, step: str, path: str, error: OSError, json_path: str) -> SetupError:
        detail = ""
        with contextlib.suppress(OSError):
            detail = files.read(f"{self._group.root}/info/last_cmd_status").decode(errors="replace").strip()
        return SetupError(step, path, error.errno or 0, json_path, "" if detail == "ok" else detail)


def remove_groups(paths: Iterable[str]) -> None:
    """With a container: those that were made for it alone. Those that are gone are fine. Raises SetupError."""
    for path in paths:
        try:
            _remove_directory(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SetupError("remove resctrl group", path, error.errno or 0, PATH) from error


_make_directory = os.mkdir
_remove_directory = os.rmdir
