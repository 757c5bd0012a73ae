"""Mount options as tables (config.md, "Linux mount options")."""

from __future__ import annotations

import msgspec

from pyruntime.errors import UnsupportedFieldError
from pyruntime.plan import flags as f

_ATIME = f.MOUNT_ATTR__ATIME

# option: (bits to set, bits to clear). An access time mode is a value in a field, so setting one clears the field.
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (f.MOUNT_ATTR_RDONLY, 0), "rw": (0, f.MOUNT_ATTR_RDONLY),
    "nosuid": (f.MOUNT_ATTR_NOSUID, 0), "suid": (0, f.MOUNT_ATTR_NOSUID),
    "nodev": (f.MOUNT_ATTR_NODEV, 0), "dev": (0, f.MOUNT_ATTR_NODEV),
    "noexec": (f.MOUNT_ATTR_NOEXEC, 0), "exec": (0, f.MOUNT_ATTR_NOEXEC),
    "nosymfollow": (f.MOUNT_ATTR_NOSYMFOLLOW, 0), "symfollow": (0, f.MOUNT_ATTR_NOSYMFOLLOW),
    "nodiratime": (f.MOUNT_ATTR_NODIRATIME, 0), "diratime": (0, f.MOUNT_ATTR_NODIRATIME),
    "relatime": (f.MOUNT_ATTR_RELATIME, _ATIME), "norelatime": (f.MOUNT_ATTR_STRICTATIME, _ATIME),
    "noatime": (f.MOUNT_ATTR_NOATIME, _ATIME), "atime": (f.MOUNT_ATTR_RELATIME, _ATIME),
    "strictatime": (f.MOUNT_ATTR_STRICTATIME, _ATIME), "nostrictatime": (f.MOUNT_ATTR_RELATIME, _ATIME),
}
_RECURSIVE = {f"r{name}": bits for name, bits in _ATTRIBUTES.items()}
# Access time modes, and what takes one back: it means nothing where another one was chosen before. Of a bind mount they are flags of mount(2):
# where none is left the source's mode stays, as with mount(8), and of several the kernel takes the first of these.
_MODES = ("strictatime", "noatime", "relatime")
_TAKES_BACK = {"norelatime": "relatime", "atime": "noatime", "nostrictatime": "strictatime"}
_PROPAGATION = {
    "private": f.MS_PRIVATE, "rprivate": f.MS_PRIVATE | f.MS_REC, "slave": f.MS_SLAVE, "rslave": f.MS_SLAVE | f.MS_REC,
    "shared": f.MS_SHARED, "rshared": f.MS_SHARED | f.MS_REC, "unbindable": f.MS_UNBINDABLE,
    "runbindable": f.MS_UNBINDABLE | f.MS_REC,
}
# of the file system and not of the mount. option: (the one that it is about, whether it is the default)
_SUPERBLOCK = {
    "sync": ("sync", False), "async": ("sync", True), "dirsync": ("dirsync", False),
    "nodirsync": ("dirsync", True), "lazytime": ("lazytime", False),
    "nolazytime": ("lazytime", True), "mand": ("mand", False), "nomand": ("mand", True),
    "iversion": ("iversion", False), "noiversion": ("iversion", True),
}
# what the kernel writes to its log is nobody's affair here
_WITHOUT_EFFECT = frozenset({"defaults", "loud", "silent"})
# of those that bind mounts have of their sources: what a mount in a user namespace may not lose of them, where that is not its own, and all
_LOCKED = f.MOUNT_ATTR_RDONLY | f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV | f.MOUNT_ATTR_NOEXEC
_INHERITED = _LOCKED | f.MOUNT_ATTR_NOSYMFOLLOW
# podman's own, of a volume that it has filled before; it passes them on
_ENGINES = frozenset({"copy", "nocopy"})
_OTHERS = frozenset({"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"})


class MountOptions(msgspec.Struct, frozen=True):
    """What a list of options means.

    superblock  flags of the file system, each with whether it is to be set
    data        for the file system, in the order given
    unknown     which of the options are not the specification's, and so for the file system to know
    mapping     which of them asks for an id-mapped mount
    copies_up   which of them asks for what the image has there
    names_attributes    whether one of them is about an attribute of the mount
    """

    is_bind: bool
    recursive_bind: bool
    set: int
    clear: int
    recursive_set: int
    recursive_clear: int
    propagations: tuple[int, ...]
    superblock: dict[str, bool]
    data: tuple[str, ...]
    unknown: tuple[int, ...]
    is_remount: bool = False
    mapping: int | None = None
    copies_up: int | None = None
    names_attributes: bool = False

    def of_bind_mount(self, keeps_locked: bool) -> MountOptions:
        """With what they do not name of the source's attributes: nothing stays of these, if anything is named, as if mount(2) had remounted
        it; of access times nothing stays if it is said how they are kept, and everything if it is said only how they are not. keeps_locked:
        as in a user namespace, where the kernel lets nobody take away what the host has chosen."""
        if not self.names_attributes:
            return self
        others = _INHERITED & ~_LOCKED if keeps_locked else _INHERITED
        clear = self.clear
        if not self._sets_access_times:
            clear &= ~f.MOUNT_ATTR_NODIRATIME
        elif not keeps_locked:
            # the mode is a value in a field, which is set as a whole
            others |= _ATIME | (f.MOUNT_ATTR_NODIRATIME & ~self.set)
        return msgspec.structs.replace(self, clear=clear | others & (~self.set | _ATIME))

    @property
    def _sets_access_times(self) -> bool:
        return bool(self.clear & _ATIME or self.set & f.MOUNT_ATTR_NODIRATIME)

    def may_unlock(self) -> bool:
        """Whether they name anything that could take away what the source has."""
        return bool(self.clear) or self._sets_access_times

    def read_only(self) -> MountOptions:
        """The same, whatever they say of writing."""
        return msgspec.structs.replace(self, set=self.set | f.MOUNT_ATTR_RDONLY, clear=self.clear & ~f.MOUNT_ATTR_RDONLY,
                                       recursive_clear=self.recursive_clear & ~f.MOUNT_ATTR_RDONLY)

    def flags_to_set(self) -> list[str]:
        """Of the superblock; that inodes have versions is none that fsconfig(2) knows."""
        return [name for name, is_set in self.superblock.items() if is_set and name != "iversion"]


def parse_mount_options(options: tuple[str, ...]) -> MountOptions:
    """An option that the specification does not know is the file system's. Empty ones are none: buildah writes such for a volume without."""
    bits = {False: [0, 0], True: [0, 0]}
    propagations: list[int] = []
    superblock: dict[str, bool] = {}
    data: list[str] = []
    unknown: list[int] = []
    mapping = copies_up = None
    is_bind = "bind" in options or "rbind" in options
    modes: set[str] = set()
    for i, option in enumerate(options):
        if is_bind and option in _MODES:
            modes.add(option)
        elif is_bind and option in _TAKES_BACK:
            modes.discard(_TAKES_BACK[option])
        elif option in _ATTRIBUTES:
            _apply(bits[False], option)
        elif option in _RECURSIVE:
            _apply(bits[True], option[1:])
        elif option in _PROPAGATION:
            propagations.append(_PROPAGATION[option])
        elif option in _SUPERBLOCK:
            name, is_default = _SUPERBLOCK[option]
            superblock[name] = not is_default
        elif option in ("idmap", "ridmap") or option.startswith(("idmap=", "ridmap=")):
            mapping = i
        elif option == "tmpcopyup":
            copies_up = i
        elif option and option not in _WITHOUT_EFFECT and option not in _OTHERS:
            data.append(option)
            unknown.append(i)
    if modes:
        _apply(bits[False], next(mode for mode in _MODES if mode in modes))
    return MountOptions(is_bind, "rbind" in options, bits[False][0], bits[False][1], bits[True][0],
                        bits[True][1], tuple(propagations), superblock, tuple(data), tuple(unknown), "remount" in options,
                        mapping, copies_up, not _ATTRIBUTES.keys().isdisjoint(options))


def _apply(bits: list[int], option: str) -> None:
    sets, clears = _ATTRIBUTES[option]
    is_chosen = bits[1] & _ATIME
    if is_chosen and option in _TAKES_BACK and bits[0] & _ATIME != _ATTRIBUTES[_TAKES_BACK[option]][0]:
        return
    bits[0] = bits[0] & ~clears | sets
    bits[1] = bits[1] & ~sets | clears


def asks_for_writing(options: tuple[str, ...]) -> bool:
    """Whether a mount is to be writable."""
    parsed = parse_mount_options(options)
    return not (parsed.set & ~parsed.recursive_clear | parsed.recursive_set) & f.MOUNT_ATTR_RDONLY and not parsed.is_bind


def refuse_unknown_options(options: MountOptions, names: tuple[str, ...], json_path: str, why: str = "one that is mounted already is bound",
                           ) -> None:
    """Of what is bound no file system is made that could take them. As runc does; what the specification lists and is of the
    file system, as `sync`, is let pass, as both runc and crun do, and what an engine has seen to. Raises UnsupportedFieldError."""
    for i in options.unknown:
        if names[i] in _ENGINES:
            continue
        raise UnsupportedFieldError(None, f"{json_path}.options[{i}]", f"mount option {names[i]!r} is of a file system, and here {why}")


def names_of_options() -> list[str]:
    """All that are executed, sorted; what is not in the specification is the file system's to know."""
    return sorted({*_ATTRIBUTES, *_RECURSIVE, *_PROPAGATION, *_SUPERBLOCK, *_WITHOUT_EFFECT, *_OTHERS})
