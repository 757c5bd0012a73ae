"""Mount options as a table (config.md, "Linux mount options")."""

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
_PROPAGATION = {
    "private": f.MS_PRIVATE, "rprivate": f.MS_PRIVATE | f.MS_REC, "slave": f.MS_SLAVE, "rslave": f.MS_SLAVE | f.MS_REC,
    "shared": f.MS_SHARED, "rshared": f.MS_SHARED | f.MS_REC, "unbindable": f.MS_UNBINDABLE,
    "runbindable": f.MS_UNBINDABLE | f.MS_REC,
}
# of the file system and not of the mount: flags of fsconfig(2) where they are not the default
_SUPERBLOCK = {"sync": "sync", "dirsync": "dirsync", "lazytime": "lazytime", "mand": "mand"}
_DEFAULTS = frozenset({"defaults", "async", "nolazytime", "nomand", "loud", "silent", "noiversion", "nodirsync"})
_LATER = frozenset({"remount", "tmpcopyup", "idmap", "ridmap", "iversion"})


class MountOptions(msgspec.Struct, frozen=True):
    """What a list of options means.

    data      for the file system, in the order given
    unknown   which of the options are not the specification's, and so for the file system to know
    """

    is_bind: bool
    recursive_bind: bool
    set: int
    clear: int
    recursive_set: int
    recursive_clear: int
    propagations: tuple[int, ...]
    data: tuple[str, ...]
    unknown: tuple[int, ...]


def parse_mount_options(options: tuple[str, ...], json_path: str) -> MountOptions:
    """Raises UnsupportedFieldError for an option that is not executed yet; an unknown one is the file system's."""
    is_bind = recursive_bind = False
    bits = {False: [0, 0], True: [0, 0]}
    propagations: list[int] = []
    data: list[str] = []
    unknown: list[int] = []
    for i, option in enumerate(options):
        attribute = _ATTRIBUTES.get(option)
        recursive = attribute is None and option in _RECURSIVE
        if recursive:
            attribute = _RECURSIVE[option]
        if attribute is not None:
            pair = bits[recursive]
            pair[0] = pair[0] & ~attribute[1] | attribute[0]
            pair[1] = pair[1] & ~attribute[0] | attribute[1]
        elif option in ("bind", "rbind"):
            is_bind = True
            recursive_bind = recursive_bind or option == "rbind"
        elif option in _PROPAGATION:
            propagations.append(_PROPAGATION[option])
        elif option in _SUPERBLOCK:
            data.append(_SUPERBLOCK[option])
        elif option in _LATER or option.startswith(("idmap=", "ridmap=")):
            raise UnsupportedFieldError(None, f"{json_path}.options[{i}]", f"mount option {option!r} is not executed yet")
        elif option not in _DEFAULTS:
            data.append(option)
            unknown.append(i)
    return MountOptions(is_bind, recursive_bind, bits[False][0], bits[False][1], bits[True][0], bits[True][1],
                        tuple(propagations), tuple(data), tuple(unknown))


def refuse_unknown_options(options: MountOptions, names: tuple[str, ...], json_path: str) -> None:
    """Of what is bound no file system is made that could take them. As runc does; what the specification lists and is of the
    file system, as `sync`, is let pass, as both runc and crun do. Raises UnsupportedFieldError."""
    for i in options.unknown:
        raise UnsupportedFieldError(None, f"{json_path}.options[{i}]", f"mount option {names[i]!r} is of a file system, and here "
                                    "one that is mounted already is bound")


def names_of_options() -> list[str]:
    """All that are executed, sorted; what is not in the specification is the file system's to know."""
    return sorted({"bind", "rbind", *_ATTRIBUTES, *_RECURSIVE, *_PROPAGATION, *_SUPERBLOCK, *_DEFAULTS})
