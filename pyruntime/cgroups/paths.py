"""Where a container's cgroups are (pure)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pyruntime.host import Host

DEFAULT_PARENT = "/pyruntime"


class Cgroup(msgspec.Struct, frozen=True):
    """One directory of the container's, in one hierarchy."""

    path: str
    mount_length: int
    controllers: tuple[str, ...]
    is_v2: bool

    @property
    def name(self) -> str:
        """What the hierarchy is called below /sys/fs/cgroup: `cpu,cpuacct`, `systemd`, `unified`."""
        return self.path[:self.mount_length].rpartition("/")[2]


def cgroup_path_of(cgroups_path: str | None, id: str) -> str:
    """Where a container's cgroup is. Absolute and relative paths start at the hierarchy's root, never at the caller's own cgroup;
    without one it is /pyruntime/ID (config-linux.md, "Cgroups Path")."""
    return "/" + cgroups_path.strip("/") if cgroups_path else f"{DEFAULT_PARENT}/{id}"


def rootless_path_of(host: Host, cgroups_path: str | None, id: str) -> str | None:
    """The same for a caller without privileges, below what is delegated to it unless the path is absolute; None where nothing is."""
    path = cgroup_path_of(cgroups_path, id)
    if cgroups_path and cgroups_path[0] == "/":
        return path
    return None if host.delegated is None else host.delegated + path


def default_path_of(host: Host, id: str) -> str | None:
    """Where the cgroup of a container without `cgroupsPath` is."""
    return rootless_path_of(host, None, id) if host.is_rootless else cgroup_path_of(None, id)


def cgroups_of(host: Host, path: str | None) -> tuple[Cgroup, ...]:
    """The cgroup of that path in every hierarchy; none without a path."""
    if path is None:
        return ()
    return tuple(Cgroup(hierarchy.mount_point + path, len(hierarchy.mount_point), hierarchy.controllers, hierarchy.is_v2)
                 for hierarchy in host.hierarchies)


def freezer_of(cgroups: tuple[Cgroup, ...]) -> tuple[str, bool] | None:
    """The file that freezes what is in them, and whether it is of v2; None where no freezer is mounted."""
    for cgroup in cgroups:
        if "freezer" in cgroup.controllers:
            return f"{cgroup.path}/freezer.state", False
    unified = next((cgroup for cgroup in cgroups if cgroup.is_v2), None)
    return (f"{unified.path}/cgroup.freeze", True) if unified is not None else None


def cgroups_below(cgroups: tuple[Cgroup, ...], wanted: Mapping[str, str]) -> tuple[Cgroup, ...]:
    """A container's cgroups, but those below them that are wanted: by controller of cgroup v1, or by '' for all. Raises ValueError,
    which says what is wrong."""
    known = {controller for cgroup in cgroups if not cgroup.is_v2 for controller in cgroup.controllers}
    for controller, path in wanted.items():
        if controller and controller not in known:
            raise ValueError(f"unknown controller {controller!r}")
        if ".." in path.split("/"):
            raise ValueError(f"bad sub cgroup path {path!r}: it is not below the container's cgroup")

    def below(cgroup: Cgroup) -> Cgroup:
        chosen = next((wanted[controller] for controller in ("", *cgroup.controllers)[::-1] if controller in wanted), "")
        parts = [part for part in chosen.split("/") if part not in ("", ".")]
        return msgspec.structs.replace(cgroup, path="/".join((cgroup.path, *parts))) if parts else cgroup

    return tuple(below(cgroup) for cgroup in cgroups)


class Unit(msgspec.Struct, frozen=True):
    """A systemd unit that a container's cgroup belongs to: a scope, or a slice, whose name says in which ones it is.

    parent   the slice of a scope
    """

    name: str
    parent: str

    @property
    def is_slice(self) -> bool:
        return self.name.endswith(_SLICE)

    @property
    def path(self) -> str:
        """From systemd's own cgroup (systemd.slice(5), systemd.scope(5))."""
        return slice_path(self.name) if self.is_slice else f"{slice_path(self.parent)}/{self.name}"


_SLICE = ".slice"
# of the system's manager, and of a user's
DEFAULT_SLICE, USER_SLICE = "system.slice", "user.slice"
_UNIT_NAME_MAX = 255
# VALID_CHARS of systemd's unit-name.c
_UNIT_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\")


def slice_path(name: str) -> str:
    """`a-b.slice` is /a.slice/a-b.slice, and `-.slice` the root."""
    stem = name.removesuffix(_SLICE)
    if stem == "-":
        return ""
    parts = stem.split("-")
    return "".join(f"/{'-'.join(parts[:i + 1])}{_SLICE}" for i in range(len(parts)))


def unit_of(cgroups_path: str | None, id: str, default_slice: str = DEFAULT_SLICE) -> Unit:
    """What `slice:prefix:name` means: the scope PREFIX-NAME.scope in the slice, or NAME itself where it is a slice; without a
    cgroupsPath pyruntime-ID.scope in the default slice. Raises ValueError, which says what is wrong."""
    if cgroups_path is None:
        parent, prefix, name = default_slice, "pyruntime", id.replace("+", "\\x2b")  # systemd-escape(1); no other needs it
    else:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise ValueError("is not of the form slice:prefix:name, which the systemd driver needs")
        parent, prefix, name = parts
        parent = parent or default_slice
    if not name:
        raise ValueError("names no unit behind the last colon")
    if not _is_slice(parent):
        raise ValueError(f"begins with {parent!r}, which is no slice of systemd's")
    if name.endswith(_SLICE):
        if not _is_slice(name) or name == "-.slice":
            raise ValueError(f"ends with {name!r}, which is no slice of systemd's for a container")
        return Unit(name, parent)
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    # those of the id are checked already, but for one
    wrong = next((character for character in unit if character not in _UNIT_CHARACTERS and character != "\0"), None)
    if wrong is not None:
        raise ValueError(f"means the unit {unit!r}, and {wrong!r} cannot be in a unit's name")
    if len(unit) > _UNIT_NAME_MAX:
        raise ValueError(f"means a unit whose name has {len(unit)} characters, at most {_UNIT_NAME_MAX} are possible")
    return Unit(unit, parent)


def _is_slice(name: str) -> bool:
    stem = name.removesuffix(_SLICE)
    if not name.endswith(_SLICE) or len(name) > _UNIT_NAME_MAX or not _UNIT_CHARACTERS.issuperset(name):
        return False
    return stem == "-" or all(stem.split("-"))
