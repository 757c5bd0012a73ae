"""What making a container of a bundle would do, without doing anything: nothing is written, made or mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pyruntime.cgroups import systemd
from pyruntime.errors import InvalidBundleError
from pyruntime.host import Host, Unprivileged, parse_hierarchies, program_path, read_host, without_cgroups
from pyruntime.native.encoder import encode
from pyruntime.native.seccomp import compile_filter
from pyruntime.plan.compile import Manner
from pyruntime.plan.intel_rdt import ResctrlGroup
from pyruntime.plan.outline import Step, outline
from pyruntime.runtimes.bundle import OpenedBundle, check_rootfs
from pyruntime.runtimes.compiled import CompiledBundle
from pyruntime.spec import read_config
from pyruntime.state.store import DEFAULT_ROOT, check_id, root_for

_ALL_CAPABILITIES = 2**64 - 1
_SOME_USER = 1000
_PART = re.compile(r'\.(\w+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]', re.ASCII)


class OtherCaller(msgspec.Struct, frozen=True, rename="camel"):
    """What would differ for somebody else.

    caller    who that is
    refused   why the bundle would be refused; None if it would not
    more      steps that only that plan has
    fewer     steps that it has not
    """

    caller: str
    refused: str | None = None
    more: tuple[Step, ...] = ()
    fewer: tuple[Step, ...] = ()


class Preview(msgspec.Struct, frozen=True, rename="camel"):
    """What would be done for a container, in order.

    caller     for whom: `root`, `root of a user namespace`, `uid 1000`
    not_given  JSON paths of steps that config.json has nothing at: what stands there by default asks for them
    warnings   what would be warned of
    """

    id: str
    bundle: str
    caller: str
    steps: tuple[Step, ...]
    not_given: frozenset[str]
    warnings: tuple[str, ...]
    other: OtherCaller


class Previewer:
    """Of one bundle. Raises InvalidBundleError, InvalidIdError; with `systemd_cgroup` SetupError, UnsupportedHostError without a systemd
    to ask.

    id     of the container that would be made
    root   where its state would be, as NativeRuntime is given it
    host   another one than this
    """

    def __init__(self, bundle_path: str, id: str = "ID", *, root: str = DEFAULT_ROOT, systemd_cgroup: bool = False, no_cgroups: bool = False,
                 manner: Manner = Manner(), host: Host | None = None) -> None:
        check_id(id)
        self._host = read_host() if host is None else host
        if no_cgroups:
            self._host = without_cgroups(self._host)
        self._units = systemd.control_group() if systemd_cgroup else None
        self._id, self._root, self._manner = id, root, manner
        path = os.path.abspath(bundle_path)
        data = read_config(path)
        self._bundle = OpenedBundle.decode(path, data)
        check_rootfs(self._bundle)
        self._config: Any = msgspec.json.decode(data)

    def preview(self) -> Preview:
        """What NativeRuntime.create_container and what follows would do. Raises InvalidBundleError, UnsupportedFieldError as it would."""
        steps, warnings = self._steps(self._host, root_for(self._root, self._host.is_rootless), self._units)
        asked = {step.json_path for step in steps if step.json_path is not None}
        not_given = frozenset(path for path in asked if not is_given(self._config, path))
        return Preview(self._id, self._bundle.path, caller_of(self._host), tuple(steps), not_given, warnings, self.for_other(steps))

    def for_other(self, steps: Sequence[Step] = ()) -> OtherCaller:
        """For root, where this is not; for root with a user without privileges. steps: those that this one has."""
        is_root = not self._host.is_rootless
        other = _as_user(self._host, self._bundle) if is_root else _as_root(self._host)
        who = "a user without privileges or a delegated cgroup" if is_root else "root"
        root = "$XDG_RUNTIME_DIR/pyruntime" if is_root and self._root == DEFAULT_ROOT else self._root
        try:
            # a user's units are of another manager than root's
            found, _ = self._steps(other, root, None if is_root or self._units is None else "")
        except InvalidBundleError as error:
            return OtherCaller(who, str(error))
        ours, theirs = {step.identity for step in steps}, {step.identity for step in found}
        return OtherCaller(who, None, tuple(step for step in found if step.identity not in ours),
                           tuple(step for step in steps if step.identity not in theirs))

    def _steps(self, host: Host, root: str, units: str | None) -> tuple[list[Step], tuple[str, ...]]:
        """And what is warned of."""
        compiled = CompiledBundle(self._bundle, host, units, compile_filter)
        plan = compiled.compile(self._id, root, self._manner)
        encode(plan)  # refuses what is too long
        first = [Step("create", "host", "make state directory", f"{root}/{self._id}",
                      reason="by it any process finds the container, and locks it")]
        unit = compiled.unit(self._id)
        if unit is not None:
            properties = [name for name, _ in compiled.unit_properties(self._id, ())]
            first.append(Step("create", "host", "start unit", unit.name, " ".join(properties), {"properties": properties},
                              "$.linux.cgroupsPath", "systemd makes the container's cgroups (--systemd-cgroup)"))
        group = compiled.resctrl_group(self._id)
        if group is not None:
            first += _of_groups(group)
        return [*first, *outline(plan)], compiled.warnings


def _of_groups(group: ResctrlGroup) -> Iterator[Step]:
    yield Step("create", "host", "find resctrl group" if group.must_exist else "make resctrl group", group.path, json_path=group.json_path)
    for schema in group.schemas:
        yield Step("create", "host", "write schemata", f"{group.path}/schemata", f"= {schema.text}", {"text": schema.text}, schema.json_path)
    for path in group.paths[1:]:
        yield Step("create", "host", "make resctrl group", path, json_path="$.linux.intelRdt.enableMonitoring")


def caller_of(host: Host) -> str:
    """In words."""
    if host.caller is not None:
        return f"uid {host.caller.uid}"
    return "root of a user namespace" if host.in_user_namespace else "root"


def is_given(config: Any, json_path: str) -> bool:
    """Whether a config.json has something at a JSON path as errors have it."""
    at = config
    for name, index, key in _PART.findall(json_path.removeprefix("$")):
        try:
            at = at[int(index)] if index else at[name or msgspec.json.decode(f'"{key}"')]
        except (KeyError, IndexError, TypeError):
            return False
    return at is not None


def _as_root(host: Host) -> Host:
    with open("/proc/self/mountinfo") as mountinfo:
        hierarchies = parse_hierarchies(mountinfo.read()) if host.makes_cgroups else ()
    return msgspec.structs.replace(host, hierarchies=hierarchies, held_capabilities=_ALL_CAPABILITIES, bounding_capabilities=_ALL_CAPABILITIES,
                                   caller=None, in_user_namespace=False, delegated=None)


def _as_user(host: Host, bundle: OpenedBundle) -> Host:
    """One to whom the single ids that are mapped belong, if any are."""
    linux = bundle.spec.linux
    uid, gid = (mappings[0].host_id if len(mappings) == 1 and mappings[0].size == 1 else _SOME_USER
                for mappings in (linux.uid_mappings, linux.gid_mappings))
    user = Unprivileged(uid, gid, program_path("newuidmap"), program_path("newgidmap"))
    hierarchies = tuple(hierarchy for hierarchy in host.hierarchies if hierarchy.is_v2)
    return msgspec.structs.replace(host, hierarchies=hierarchies, held_capabilities=0, caller=user, delegated=None)
