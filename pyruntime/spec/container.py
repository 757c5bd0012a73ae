"""The whole of config.json (runtime-spec, config.md)."""

from typing import Annotated, Any

from msgspec import Meta

from pyruntime.spec.fields import Section, Text
from pyruntime.spec.isolation import IDMapping, Linux
from pyruntime.spec.process import Process


class Root(Section, frozen=True, kw_only=True):
    """The root file system; `path` is absolute or relative to the bundle (config.md "Root")."""

    path: Text
    readonly: bool = False


class Mount(Section, frozen=True, kw_only=True):
    """A mount, in the order in which they are made (config.md "Mounts").

    destination   path in the container; a relative one is relative to /
    source        for a bind mount, a path of the host, absolute or relative to the bundle
    options       as in fstab(5); what the runtime does not know goes to the file system
    uid_mappings, gid_mappings   of an id-mapped mount; both or neither
    """

    destination: Text
    source: Text | None = None
    type: Text | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


class Hook(Section, frozen=True, kw_only=True):
    """A program to run at a point of the life cycle (config.md "POSIX-platform Hooks").

    path      absolute
    args      with argv[0]; empty means the path alone
    timeout   seconds, None for no limit
    """

    path: Text
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class Hooks(Section, frozen=True, kw_only=True):
    """The hooks, each list in its order; `prestart` is deprecated and runs before `create_runtime`."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Spec(Section, frozen=True, kw_only=True):
    """A config.json; `process` may be absent for create, and start then fails.

    `linux` and `hooks` are empty where they were absent, which means the same. The sections of other platforms are as they are written
    (platforms.py checks them); what has one is no container of this host (`refuse_for_host`).
    """

    oci_version: str
    root: Root
    mounts: tuple[Mount, ...] = ()
    process: Process | None = None
    hostname: Text | None = None
    domainname: Text | None = None
    hooks: Hooks = Hooks()
    annotations: dict[str, str] = {}
    linux: Linux = Linux()
    freebsd: dict[str, Any] | None = None
    solaris: dict[str, Any] | None = None
    vm: dict[str, Any] | None = None
    windows: dict[str, Any] | None = None
    zos: dict[str, Any] | None = None
