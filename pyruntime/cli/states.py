"""state and list."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pyruntime.cli.arguments import DEFAULT_ROOT
from pyruntime.errors import ContainerNotFoundError
from pyruntime.interface import ContainerState
from pyruntime.state.front import rendered, state_document

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime


def state(runtime: NativeRuntime, options: Options) -> int:
    """As the specification has it (runtime.md, "State"), with what runc adds."""
    print_json(_described(runtime.get_container_state(options.id)))
    return 0


def list_containers(runtime: NativeRuntime, options: Options) -> int:
    """Damaged entries are warned of and left out. Where containers are by default there may be none yet; another directory has to exist."""
    if options.root != DEFAULT_ROOT:
        os.stat(options.root)
    states = runtime.list_container_states()
    if options.quiet:
        for container in states:
            print(container.id)
    elif options.format == "json":
        print_json([{**_described(container), "owner": _owner(runtime, container.id)} for container in states], indent=0)
    else:
        print_table(("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"), [
            (container.id, str(container.pid), container.status, container.bundle_path, container.created.isoformat(),
             _owner(runtime, container.id)) for container in states])
    return 0


def _owner(runtime: NativeRuntime, id: str) -> str:
    """As runc has it: who has the container's directory, by name or as `#1000`; nobody where it is gone by now."""
    import pwd  # nothing else needs it

    try:
        uid = runtime.container_owner(id)
    except ContainerNotFoundError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _described(container: ContainerState) -> dict[str, Any]:
    return state_document(container.oci_version, container.id, container.pid, container.status, container.bundle_path, container.rootfs_path,
                          container.created, container.annotations)


def print_json(value: object, indent: int = 2) -> None:
    """One document and the end of the line; paths that are not UTF-8 as far as JSON can hold them."""
    sys.stdout.write(rendered(value, indent) + "\n")


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as what stands in them."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
