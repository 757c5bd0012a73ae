"""Operations in words: on what, and with what values, as who wrote the configuration knows them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import Any

from pyruntime.plan import flags as f
from pyruntime.plan.operation import Operation, Slot

_ATTRIBUTES = {"ro": f.MOUNT_ATTR_RDONLY, "nosuid": f.MOUNT_ATTR_NOSUID, "nodev": f.MOUNT_ATTR_NODEV, "noexec": f.MOUNT_ATTR_NOEXEC,
               "nodiratime": f.MOUNT_ATTR_NODIRATIME, "nosymfollow": f.MOUNT_ATTR_NOSYMFOLLOW}
_CLEARED = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec", "nodiratime": "diratime", "nosymfollow": "symfollow"}
_PROPAGATION = {f.MS_PRIVATE: "private", f.MS_SLAVE: "slave", f.MS_SHARED: "shared", f.MS_UNBINDABLE: "unbindable"}
_LONGEST = 200


def text_of(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _names(bits: int) -> str:
    found = [name for name, number in f.CAPABILITIES.items() if bits >> number & 1]
    return ", ".join(found) or "none"


def attributes(set: int, clear: int = 0) -> list[str]:
    """As the options of a mount."""
    found = [name for name, bit in _ATTRIBUTES.items() if set & bit]
    found += [_CLEARED[name] for name, bit in _ATTRIBUTES.items() if clear & bit and not set & bit]
    if clear & f.MOUNT_ATTR__ATIME or set & f.MOUNT_ATTR__ATIME:
        found.append({f.MOUNT_ATTR_NOATIME: "noatime", f.MOUNT_ATTR_STRICTATIME: "strictatime"}.get(set & f.MOUNT_ATTR__ATIME, "relatime"))
    return found


def _mount_change(o: Any) -> str:
    kinds = [*attributes(o.set, o.clear), *([_PROPAGATION[o.propagation]] if o.propagation in _PROPAGATION else [])]
    return f"{' '.join(kinds)}{' and all below' if o.recursive else ''}"


def _tree(o: Any) -> str:
    parts = ["with all below" if o.recursive else "", _PROPAGATION.get(o.propagation, "")]
    return " ".join(part for part in parts if part)


def _node(o: Any) -> str:
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}.get(stat.S_IFMT(o.mode), "?")
    number = "" if kind == "p" else f" {os.major(o.device)}:{os.minor(o.device)}"
    return f"{kind}{number} mode {stat.S_IMODE(o.mode):04o} of {o.uid}:{o.gid}{', which has to be there' if o.demands & f.NODE_EXISTS else ''}"


def _limit(number: int) -> str:
    return "unlimited" if number >= 2**64 - 1 else str(number)


def _words(values: Iterable[bytes]) -> str:
    return " ".join(text_of(value) for value in values)


def _groups(o: Any) -> str:
    numbers = [int.from_bytes(o.groups[at:at + 4], "little") for at in range(0, len(o.groups), 4)]
    return f"groups {' '.join(map(str, numbers))}" if numbers else ""


# what is told besides the subject
_DETAILS: dict[str, Callable[[Any], str]] = {
    "AttachDeviceProgram": lambda o: f"{o.size // 8} instructions",
    "ChangeDirectory": lambda o: "made if missing" if o.make else "",
    "CopyTree": _tree,
    "EnableControllers": lambda o: text_of(o.controllers),
    "ExecuteProgram": lambda o: f"{_words(o.arguments[1:])} ({len(o.environment)} variables)",
    "InstallFilter": lambda o: f"{o.size // 8} instructions",
    "MakeLink": lambda o: f"-> {text_of(o.target)}",
    "MakeNode": _node,
    "MakeUserNamespace": lambda o: f"uids {_words(o.uid_map.split())}, gids {_words(o.gid_map.split())}",
    "MapChildIds": lambda o: " ".join(text_of(argument) or "PID" for argument in o.arguments[1:]),
    "NewFilesystem": lambda o: " ".join([*([text_of(o.type)] if o.place else []), *map(text_of, o.options), *attributes(o.attributes)]),
    "NewTmpfs": lambda o: " ".join([*map(text_of, o.options), *attributes(o.attributes)]),
    "OpenConsole": lambda o: f"{o.width}x{o.height} characters" if o.width or o.height else "",
    "OpenTree": _tree,
    "ReconfigureFilesystem": lambda o: _words(o.options),
    "RunHook": lambda o: f"{_words(o.command[4:])}{f' (at most {o.timeout_s} s)' if o.timeout_s else ''}"
                         f"{' (under the filter)' if o.is_filtered else ''}",
    "SetAmbientCapabilities": lambda o: _names(o.capabilities),
    "SetAttributesAt": _mount_change,
    "SetBoundingCapabilities": lambda o: _names(o.capabilities),
    "SetCapabilities": lambda o: f"effective {_names(o.effective)}; permitted {_names(o.permitted)}; inheritable {_names(o.inheritable)}",
    "SetIdentity": _groups,
    "SetMountAttributes": _mount_change,
    "SetUnlockedAttributes": _mount_change,
    "SetRlimit": lambda o: f"soft {_limit(o.soft)}, hard {_limit(o.hard)}",
    "RaiseHardLimit": lambda o: f"hard {_limit(o.hard)}",
    "SetUmask": lambda o: f"{o.mask:04o}",
    "StartSession": lambda o: "with the terminal" if o.takes_terminal else "",
    "UnshareTimeNamespace": lambda o: ", ".join(text_of(line) for line in o.offsets.splitlines()),
    "WriteChildProc": lambda o: f"= {text_of(o.value)}",
    "WriteFile": lambda o: f"= {', '.join(map(text_of, o.values))}",
    "WriteProc": lambda o: f"= {text_of(o.value)}",
}


def details_of(operation: Operation) -> str:
    """One line, '' where the subject says all."""
    tell = _DETAILS.get(type(operation).__name__)
    text = " ".join(tell(operation).split()) if tell is not None else ""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def operands_of(operation: Operation) -> dict[str, Any]:
    """For programs: all that it is made of, by the names of its fields. Text that is not UTF-8 has escapes; a program is told by its size."""
    found: dict[str, Any] = {}
    for name in operation.__struct_fields__[1:]:
        value = getattr(operation, name)
        if isinstance(value, Slot):
            value = str(value)
        elif isinstance(value, tuple):
            value = [text_of(item) for item in value]
        elif isinstance(value, bytes):
            value = {"bytes": len(value)} if name in ("program", "groups", "members") else text_of(value)
        found[name] = value
    return found
