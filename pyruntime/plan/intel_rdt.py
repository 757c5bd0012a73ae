"""Groups of the resctrl file system that a container's processes are put into (config-linux.md "IntelRdt")."""

from __future__ import annotations

import msgspec

from pyruntime.errors import UnsupportedFieldError
from pyruntime.host import Host
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.spec import IntelRdt

PATH = "$.linux.intelRdt"


class Schema(msgspec.Struct, frozen=True):
    """What is written to `schemata` at once, mostly one line. is_compared: where the group is there already it has to have that."""

    json_path: str
    text: str
    is_compared: bool = False


class ResctrlGroup(msgspec.Struct, frozen=True):
    """A group as a container wants it; paths are directories.

    root             of the file system
    monitoring_path  of the container's own monitoring group, None for none
    has_name         it has a name of its own, so that it is not the container's alone and is not removed with it
    """

    root: str
    path: str
    monitoring_path: str | None
    has_name: bool
    schemas: tuple[Schema, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Those that the processes join, in that order."""
        return (self.path,) if self.monitoring_path is None else (self.path, self.monitoring_path)

    @property
    def json_path(self) -> str:
        """Of what says which group it is."""
        return f"{PATH}.closID" if self.has_name else PATH

    @property
    def must_exist(self) -> bool:
        """Nothing is said of what it would be."""
        return self.has_name and not self.schemas


def group_of(rdt: IntelRdt, host: Host, id: str) -> ResctrlGroup:
    """The group of a container. Raises UnsupportedFieldError where no resctrl is mounted."""
    if host.resctrl is None:
        raise UnsupportedFieldError(None, PATH, "needs the file system resctrl, which is not mounted on this host")
    path = host.resctrl if rdt.clos_id == "/" else f"{host.resctrl}/{rdt.clos_id or id}"
    schemas = [Schema(f"{PATH}.{name}", text, True)
               for name, text in (("l3CacheSchema", rdt.l3_cache_schema), ("memBwSchema", rdt.mem_bw_schema)) if text]
    schemas += [Schema(f"{PATH}.schemata[{i}]", line) for i, line in enumerate(rdt.schemata)]
    return ResctrlGroup(host.resctrl, path, f"{path}/mon_groups/{id}" if rdt.enable_monitoring else None, rdt.clos_id is not None,
                        tuple(schemas))


def join_groups(draft: Draft, paths: tuple[str, ...]) -> None:
    """By the process itself, as with cgroups of v1; the successors and children of a process are where it is."""
    for path in paths:
        tasks, slot = f"{path}/tasks".encode(), draft.source_slot()
        draft.sources.append(op.OpenTasks(PATH, tasks, slot))
        draft.init.append(op.JoinCgroup(PATH, tasks, slot))


def has_schema(wanted: str, schemata: str, bandwidth_step: int = 1) -> bool:
    """Whether a group with this content of `schemata` has what is wanted: the same values, however they are written, of the caches that
    are named.

    bandwidth_step   in percent: to a multiple of it the kernel rounds a memory bandwidth up
    """
    present = dict(_domains(line) for line in schemata.splitlines() if ":" in line)
    for line in wanted.splitlines():
        name, domains = _domains(line)
        there = present.get(name)
        if there is None or any(there.get(number) is None or not _is_same(name, value, there[number], bandwidth_step)
                                for number, value in domains.items()):
            return False
    return True


def _domains(line: str) -> tuple[str, dict[str, str]]:
    """`L3:0=7f0;1=1f`: the name of the resource, and a value for each cache."""
    name, _, rest = line.partition(":")
    pairs = (part.partition("=") for part in rest.split(";") if part.strip())
    return name.strip(), {number.strip().lstrip("0") or "0": value.strip() for number, _, value in pairs}


def _is_same(name: str, wanted: str, there: str, bandwidth_step: int) -> bool:
    is_bandwidth = name.endswith("MB")  # others are masks
    try:
        number, found = (int(text, 10 if is_bandwidth else 16) for text in (wanted, there))
    except ValueError:
        return wanted == there
    return found == number or (is_bandwidth and found == -(-number // bandwidth_step) * bandwidth_step)
