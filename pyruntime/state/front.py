"""What the C front end of the command line (native/front.c) reads of a container's record, in a form that needs no parser of JSON."""

from __future__ import annotations

import datetime

import msgspec

from pyruntime.cgroups.paths import Cgroup, freezer_of


def state_document(oci_version: str, id: str, pid: int, status: str, bundle_path: str, rootfs_path: str, created: datetime.datetime,
                   annotations: dict[str, str]) -> dict[str, object]:
    """As the specification has it (runtime.md, "State"), with what runc adds."""
    return {"ociVersion": oci_version, "id": id, "pid": pid, "status": status, "bundle": bundle_path, "rootfs": rootfs_path,
            "created": created, "annotations": annotations}


def rendered(value: object, indent: int = 2) -> str:
    """One JSON document as the command line prints it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=indent if indent else -1).decode()


def front_of(document: dict[str, object], pid: int, start_time: int, cgroups: tuple[Cgroup, ...], *, starts: bool, deletes: bool,
             executes: bool, shares_pid_namespace: bool) -> str | msgspec.UnsetType:
    """Lines: a version, letters for what the front end may do by itself, pid, start time and the number of cgroups; the id; the bundle; the
    freezer's file; the cgroups; then the state as it is printed, without pid and status. Unset where a line cannot be one.

    document   of `state_document`, with pid 0 and no status
    starts     nothing has to be done at the start but to tell init
    deletes    and at the end nothing but to end the processes and to remove cgroups and directory
    executes   further processes need no more than a plan and init
    """
    # a record that cannot be written is told of where it is written
    try:
        state = rendered(document)
    except UnicodeEncodeError:
        return msgspec.UNSET
    freezer = freezer_of(cgroups)
    lines = [str(document["id"]), str(document["bundle"]), "" if freezer is None else freezer[0], *(cgroup.path for cgroup in cgroups)]
    if any("\n" in line for line in lines):
        return msgspec.UNSET
    may = "".join(letter for letter, does in zip("sdep", (starts, deletes, executes, shares_pid_namespace), strict=True) if does)
    return "\n".join((f"1 {may or '-'} {pid} {start_time} {len(cgroups)}", *lines, state))
