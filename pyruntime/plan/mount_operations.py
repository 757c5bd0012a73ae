"""The init's operations on mounts and on the root."""

from __future__ import annotations

from pyruntime.plan.operation import Operation, Slot


class IsolatePropagation(Operation, frozen=True):
    about = "/"


class SetAttributesAt(Operation, frozen=True):
    """Of whatever is mounted there."""

    path: bytes
    set: int
    clear: int
    propagation: int
    recursive: int


class CopyTree(Operation, frozen=True):
    """Of what is mounted in the container by then."""

    path: bytes
    slot: Slot
    recursive: int
    propagation: int


class OfferMount(Operation, frozen=True):
    """To the host, which maps its ids by MapOfferedMount; the init waits for it."""

    slot: Slot
    place: str = ""


class NewFilesystem(Operation, frozen=True):
    type: bytes
    options: tuple[bytes, ...]
    slot: Slot
    attributes: int
    place: str = ""

    def subject(self) -> str:
        return self.place or self.type.decode(errors="backslashreplace")


class NewTmpfs(Operation, frozen=True):
    """With the mode of what it is going to cover."""

    path: bytes
    options: tuple[bytes, ...]
    slot: Slot
    attributes: int


class LabelFilesystem(Operation, frozen=True):
    """label: of SELinux, for a file system that takes none when it is made."""

    label: bytes
    slot: Slot
    place: str = ""

    def subject(self) -> str:
        return self.place


class SetMountAttributes(Operation, frozen=True):
    slot: Slot
    set: int
    clear: int
    propagation: int
    recursive: int
    place: str = ""


class SetUnlockedAttributes(SetMountAttributes, frozen=True):
    """Unless that takes away what the kernel locks in a user namespace; of one mount."""


class ReconfigureFilesystem(Operation, frozen=True):
    options: tuple[bytes, ...]
    slot: Slot
    place: str = ""


class CountVersions(Operation, frozen=True):
    """MS_I_VERSION, which mount(2) alone sets. flags: MS_... that it would take away."""

    slot: Slot
    flags: int
    place: str = ""


class CopyUp(Operation, frozen=True):
    """what: bits of COPY_UP_... in plan/flags.py."""

    path: bytes
    slot: Slot
    what: int


class PivotRoot(Operation, frozen=True):
    slot: Slot
    place: str = ""


class SwitchRoot(Operation, frozen=True):
    slot: Slot
    place: str = ""


class MountRoot(Operation, frozen=True):
    path: bytes
    slot: Slot


class UseRoot(Operation, frozen=True):
    slot: Slot
    place: str = ""


class OpenRootPlace(Operation, frozen=True):
    path: bytes
    slot: Slot


class PlaceRoot(Operation, frozen=True):
    target: Slot
    root: Slot
    place: str = ""


class EnterRoot(Operation, frozen=True):
    slot: Slot
    place: str = ""


class AttachMount(Operation, frozen=True):
    path: bytes
    slot: Slot
    refuses_links: int


class MaskPath(Operation, frozen=True):
    path: bytes
    null: Slot
    directory: Slot


class ProtectPath(Operation, frozen=True):
    path: bytes
