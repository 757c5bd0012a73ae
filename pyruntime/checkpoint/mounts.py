"""The mounts of a container as CRIU has to be told of them, and whether they are again what they were (pure).

What is mounted from outside is external to CRIU: the checkpoint holds a key for it, and whoever restores says what the key means. A key
is a number and means nothing by itself. What it stands for is found in the config.json of the restored bundle, and not in the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

# what a mount may not lose
_FLAGS = frozenset({"ro", "nosuid", "nodev", "noexec"})


class MountEntry(msgspec.Struct, frozen=True):
    """A line of /proc/PID/mountinfo (proc(5))."""

    id: int
    parent: int
    device: str
    root: str
    mount_point: str
    flags: frozenset[str]
    kind: str


def parse_mountinfo(text: str) -> list[MountEntry]:
    """In the kernel's order."""
    entries = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        entries.append(MountEntry(int(fields[0]), int(fields[1]), fields[2], _unescape(fields[3]), _unescape(fields[4]),
                                  frozenset(fields[5].split(",")) & _FLAGS, right.split(" ", 1)[0]))
    return entries


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    raw = text.encode(errors="surrogateescape").decode("latin-1").encode("latin-1", "backslashreplace").decode("unicode_escape")
    return raw.encode("latin-1").decode(errors="surrogateescape")


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an external mount comes from; one of these.

    mount    index in `mounts`
    cgroup   controllers of a v1 hierarchy with commas between, '' for the v2 one: the container's cgroup there
    device   a node of the host's: major, minor, 1 for a block device
    is_root  the root file system
    below    what of that it is, '' or a path that begins with a slash
    """

    mount: int | None = None
    cgroup: str | None = None
    device: tuple[int, int, int] | None = None
    is_root: bool = False
    below: str = ""


class SavedMount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mount at the time of the checkpoint.

    device   tells which mounts have one file system
    key      of an external mount, as the images have it
    in_root  it is mounted in the root file system, and not in another mount
    is_file  its mount point is no directory
    """

    mount_point: str
    root: str
    kind: str
    flags: tuple[str, ...]
    device: str
    key: str | None = None
    origin: Origin | None = None
    in_root: bool = False
    is_file: bool = False


class UnsavableMountError(ValueError):
    """A mount that CRIU cannot be told of; what stands in it is its mount point."""


class Surroundings(msgspec.Struct, frozen=True):
    """What tells external mounts from others.

    host_devices   of the caller's mount namespace
    configured     indices in `mounts` by mount id, of those that are bound, and of the others
    cgroups        by device: what Origin.cgroup has, and the container's cgroup from the hierarchy's root
    node           of what a path of the container is: the device number (as Origin.device), None if it is no device, and whether it is
                   a directory
    """

    host_devices: frozenset[str]
    bound: Mapping[int, int]
    made: Mapping[int, int]
    cgroups: Mapping[str, tuple[str, str]]
    node: Callable[[str], tuple[tuple[int, int, int] | None, bool]]


def save_mounts(entries: Sequence[MountEntry], around: Surroundings) -> list[SavedMount]:
    """All of a container's mounts, external ones with their keys. Raises UnsavableMountError."""
    root = next((entry for entry in entries if entry.mount_point == "/"), None)
    if root is None:
        raise UnsavableMountError("/ is no mount")
    by_id = {entry.id: entry for entry in entries}
    saved: list[SavedMount] = []
    keys: dict[str, tuple[str, Origin]] = {}
    for entry in entries:
        origin = None if entry is root else _origin_of(entry, root, by_id, around)
        key = None
        if not (entry.mount_point + entry.root).isprintable():
            raise UnsavableMountError(f"{entry.mount_point!r} has a name that the protocol of CRIU cannot hold")
        if origin is not None:
            # CRIU finds it by the text mnt[MOUNT POINT]:KEY
            if "]:" in entry.mount_point:
                raise UnsavableMountError(f"{entry.mount_point!r} has ']:' in its name, which CRIU cannot tell from its own")
            if any(other.mount_point == entry.mount_point and not _is_alike(other, entry) for other in entries):
                raise UnsavableMountError(f"{entry.mount_point!r} has several mounts, which CRIU tells from each other by their path")
            key, origin = keys.setdefault(entry.mount_point, (str(len(keys)), origin))
        saved.append(SavedMount(entry.mount_point, entry.root, entry.kind, tuple(sorted(entry.flags)), entry.device, key, origin,
                                entry.parent == root.id, not around.node(entry.mount_point)[1]))
    return saved


def _origin_of(entry: MountEntry, root: MountEntry, by_id: Mapping[int, MountEntry], around: Surroundings) -> Origin | None:
    """None: CRIU makes it anew with what is in it."""
    # a path that was made read-only is a copy of what was mounted there and below
    for id in (entry.id, *(id for id in around.bound if id in by_id and _is_alike(by_id[id], entry))):
        if id in around.bound:
            return Origin(mount=around.bound[id])
    if entry.kind in ("cgroup", "cgroup2") and entry.device in around.cgroups:
        name, path = around.cgroups[entry.device]
        if entry.root == path or entry.root.startswith(path + "/"):
            return Origin(cgroup=name, below=entry.root[len(path):])
    if entry.device not in around.host_devices:
        return None
    if entry.id in around.made:
        return Origin(mount=around.made[entry.id])
    node, _ = around.node(entry.mount_point)
    if node is not None:
        return Origin(device=node)
    if entry.device == root.device and entry.root == _join(root.root, entry.mount_point):
        return Origin(is_root=True, below=entry.mount_point)
    above = by_id.get(entry.parent)
    while above is not None and above.parent != above.id:
        if above.id in around.bound:
            return Origin(mount=around.bound[above.id], below=entry.mount_point[len(above.mount_point):])
        if above is root:
            return Origin(is_root=True, below=entry.mount_point)
        above = by_id.get(above.parent)
    raise UnsavableMountError(f"{entry.mount_point!r} is of the host, and config.json does not tell what it is")


def _is_alike(one: MountEntry, other: MountEntry) -> bool:
    return (one.mount_point, one.device, one.root) == (other.mount_point, other.device, other.root)


def is_sound(mount: SavedMount) -> bool:
    """Whether what a manifest says of an external mount is what a checkpoint writes: somebody may have changed it."""
    origin = mount.origin
    if mount.key is None or origin is None:
        return mount.key is None and origin is None
    kinds = (origin.mount is not None, origin.cgroup is not None, origin.device is not None, origin.is_root)
    parts = origin.below.split("/")
    is_clean = origin.below == "" or (parts[0] == "" and not {"", ".", ".."} & set(parts[1:]))
    return sum(kinds) == 1 and is_clean and (origin.mount or 0) >= 0 and (not origin.is_root or origin.below == mount.mount_point)


def external_mounts(saved: Iterable[SavedMount]) -> list[SavedMount]:
    """Each key once."""
    return list({mount.key: mount for mount in saved if mount.key is not None}.values())


def _join(root: str, path: str) -> str:
    return path if root == "/" else root + path


def external_keys(saved: Iterable[SavedMount]) -> list[dict[str, str]]:
    """What CRIU is told at a checkpoint: mount points and keys."""
    return [{"key": mount.mount_point, "val": mount.key} for mount in external_mounts(saved) if mount.key is not None]


def locate(entries: Sequence[MountEntry], path: str) -> MountEntry:
    """What is at a path, by the mounts alone: no link is followed."""
    above = max((entry for entry in entries if path == entry.mount_point or path.startswith(entry.mount_point.rstrip("/") + "/")),
                key=lambda entry: len(entry.mount_point))
    # of several at one place the last one is on top
    top = [entry for entry in entries if entry.mount_point == above.mount_point][-1]
    rest = path[len(top.mount_point.rstrip("/")):]
    return msgspec.structs.replace(top, root=_join(top.root, rest) if rest else top.root)


def expected_mounts(saved: Iterable[SavedMount], prepared: Mapping[str, MountEntry]) -> list[SavedMount]:
    """The same with the devices and roots of what has been prepared for a restore, by key; the root's key is ''. Raises KeyError."""
    found = []
    for mount in saved:
        key = "" if mount.mount_point == "/" and mount.key is None else mount.key
        if key is not None:
            entry = prepared[key]
            mount = SavedMount(mount.mount_point, entry.root, entry.kind, tuple(sorted({*mount.flags, *(entry.flags if key else ())})),
                               entry.device, key)
        found.append(mount)
    return found


def differences(expected: Sequence[SavedMount], found: Sequence[MountEntry], host_devices: frozenset[str]) -> list[str]:
    """What of a restored container's mounts is not as it has to be, one line each.

    A link in the root file system, or one that another container puts into a shared volume meanwhile, can lead CRIU to another place than
    the one that was meant, so that what is mounted is told by device and root. A file system of the container's own is none of the
    host's, and those that were one are one.
    """
    lines = []
    devices: dict[str, str] = {}
    wanted = sorted(expected, key=lambda mount: (mount.mount_point, mount.kind, mount.root))
    there = sorted(found, key=lambda entry: (entry.mount_point, entry.kind, entry.root))
    points, points_now = [mount.mount_point for mount in wanted], [entry.mount_point for entry in there]
    if points != points_now:
        lines += [f"{point!r} is not mounted" for point in points if points.count(point) > points_now.count(point)]
        lines += [f"{point!r} is mounted, and was not" for point in points_now if points_now.count(point) > points.count(point)]
        return list(dict.fromkeys(lines))
    for mount, entry in zip(wanted, there, strict=True):
        if mount.root != entry.root or mount.kind != entry.kind:
            lines.append(f"{mount.mount_point!r} is {entry.root!r} of {entry.kind}, not {mount.root!r} of {mount.kind}")
        elif mount.key is not None:
            if mount.device != entry.device:
                lines.append(f"{mount.mount_point!r} is of device {entry.device}, not {mount.device}")
        elif entry.device in host_devices:
            lines.append(f"{mount.mount_point!r} is the host's {entry.root!r} of {entry.kind}")
        elif devices.setdefault(mount.device, entry.device) != entry.device:
            lines.append(f"{mount.mount_point!r} is another {entry.kind} than before")
        missing = set(mount.flags) - entry.flags
        if missing:
            lines.append(f"{mount.mount_point!r} is not {', '.join(sorted(missing))}")
    return lines
