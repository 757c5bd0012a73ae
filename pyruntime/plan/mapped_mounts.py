"""Id-mapped mounts: what their ids are mapped by (config.md, "Mounts"; mount_setattr(2), "ID-mapped mounts")."""

from __future__ import annotations

from collections.abc import Sequence

from pyruntime.errors import InvalidBundleError
from pyruntime.plan import operations as op
from pyruntime.plan.draft import Draft
from pyruntime.plan.mount_options import MountOptions
from pyruntime.plan.operations import Slot
from pyruntime.spec import IDMapping, Linux, Mount

Maps = tuple[bytes, bytes]


def id_map(mappings: Sequence[IDMapping]) -> bytes:
    """As /proc/PID/uid_map and gid_map take them (user_namespaces(7))."""
    return b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in mappings)


def map_ids(mount: Mount, options: MountOptions, json_path: str, slot: Slot, namespace: Slot, target: bytes) -> op.MapMountIds:
    """Of a mount that is attached nowhere yet."""
    where = f"{json_path}.uidMappings" if options.mapping is None else f"{json_path}.options[{options.mapping}]"
    is_recursive = options.mapping is not None and mount.options[options.mapping].startswith("r")
    return op.MapMountIds(where, slot, namespace, int(is_recursive), target.decode())


class MountMappings:
    """User namespaces that exist for the mappings of mounts alone, one for all mounts with the same.

    joined   the user namespace that the container joins, which maps what has no mappings of its own
    """

    def __init__(self, draft: Draft, linux: Linux, joined: Slot | None) -> None:
        self._draft = draft
        self._linux = linux
        self._joined = joined
        self._made: dict[Maps, Slot] = {}

    def namespace_of(self, mount: Mount, option: int | None, json_path: str) -> Slot:
        """Of a mount; option is its `idmap` or `ridmap`, if it has one. Raises InvalidBundleError."""
        maps, from_where = self._maps(mount, option, json_path)
        if maps is None:
            assert self._joined is not None  # by spec.checks
            return self._joined
        if maps not in self._made:
            self._made[maps] = self._draft.source_slot()
            self._draft.sources.append(op.MakeUserNamespace(from_where, *maps, self._made[maps]))
        return self._made[maps]

    def _maps(self, mount: Mount, option: int | None, json_path: str) -> tuple[Maps | None, str]:
        if mount.uid_mappings:
            return (id_map(mount.uid_mappings), id_map(mount.gid_mappings)), f"{json_path}.uidMappings"
        assert option is not None
        where = f"{json_path}.options[{option}]"
        _, equals, text = mount.options[option].partition("=")
        if equals:
            return self._written_out(text, where), where
        if self._joined is not None:
            return None, where
        return (id_map(self._linux.uid_mappings), id_map(self._linux.gid_mappings)), where

    def _written_out(self, text: str, where: str) -> Maps:
        """crun's `idmap=uids=0-1-10#10-11-10;gids=0-100-10`: ids of the file system, of the host, and how many; behind an @ the second
        ones are the container's."""
        own = {"uids": self._linux.uid_mappings, "gids": self._linux.gid_mappings}
        maps: dict[str, bytes] = {}
        for part in text.split(";"):
            name, _, ranges = part.partition("=")
            if name not in own or name in maps:
                raise InvalidBundleError(None, where, f"{part!r} is neither uids= nor gids=, each once")
            maps[name] = b"".join(_range(one, own[name], where) for one in ranges.split("#"))
        if len(maps) != len(own):
            raise InvalidBundleError(None, where, "needs both uids= and gids=")
        return maps["uids"], maps["gids"]


def _range(text: str, container: Sequence[IDMapping], where: str) -> bytes:
    numbers = text.removeprefix("@").split("-")
    if len(numbers) != 3 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise InvalidBundleError(None, where, f"{text!r} is not of the form 0-100-10")
    first, mapped, size = map(int, numbers)
    if text.startswith("@"):
        outer = next((m for m in container if m.container_id <= mapped and mapped + size <= m.container_id + m.size), None)
        if outer is None:
            raise InvalidBundleError(None, where, f"{text!r} is not within one mapping of the container")
        mapped += outer.host_id - outer.container_id
    return b"%d %d %d\n" % (first, mapped, size)
