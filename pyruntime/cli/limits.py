"""update."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pyruntime.cli.failures import CommandError
from pyruntime.errors import InvalidBundleError

if TYPE_CHECKING:
    from pyruntime.cli.plain import Options
    from pyruntime.runtimes.native import NativeRuntime

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _bytes(text: str) -> int:
    """`1048576`, `1024k`, `1M` and `1.0 MiB` are the same; -1 is no limit."""
    if text == "-1":
        return -1
    size = _SIZE.fullmatch(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(float(size[1]) * 1024 ** " kmgtp".index(size[2].lower() or " ")) if size[2] or "." in size[1] else int(size[1])


class Limit(NamedTuple):
    """An option, and the field of `linux.resources` that it means."""

    option: str
    field: tuple[str, str]
    read: Callable[[str], Any]
    metavar: str
    help: str


LIMITS = (
    Limit("--memory", ("memory", "limit"), _bytes, "BYTES", "as 512M; -1 for no limit"),
    Limit("--memory-reservation", ("memory", "reservation"), _bytes, "BYTES", "what is kept when memory is scarce"),
    Limit("--memory-swap", ("memory", "swap"), _bytes, "BYTES", "memory and swap together; -1 for no limit"),
    Limit("--kernel-memory", ("memory", "kernel"), _bytes, "BYTES", argparse.SUPPRESS),
    Limit("--kernel-memory-tcp", ("memory", "kernelTCP"), _bytes, "BYTES", argparse.SUPPRESS),
    Limit("--cpu-share", ("cpu", "shares"), _number, "N", "the weight beside others"),
    Limit("--cpu-quota", ("cpu", "quota"), _number, "MICROSECONDS", "of CPU time in each period; -1 for no limit"),
    Limit("--cpu-period", ("cpu", "period"), _number, "MICROSECONDS", "the period of the quota"),
    Limit("--cpu-burst", ("cpu", "burst"), _number, "MICROSECONDS", "what may be saved of earlier periods"),
    Limit("--cpu-rt-runtime", ("cpu", "realtimeRuntime"), _number, "MICROSECONDS", "for realtime processes in each of their periods"),
    Limit("--cpu-rt-period", ("cpu", "realtimePeriod"), _number, "MICROSECONDS", "the period of realtime processes"),
    Limit("--cpu-idle", ("cpu", "idle"), _number, "0|1", "1: only when nobody else wants the CPU"),
    Limit("--cpuset-cpus", ("cpu", "cpus"), str, "LIST", "the CPUs to run on, as 0-3,7"),
    Limit("--cpuset-mems", ("cpu", "mems"), str, "LIST", "the nodes to have memory of, as 0,1"),
    Limit("--pids-limit", ("pids", "limit"), _number, "N", "of processes; -1 for no limit"),
    Limit("--blkio-weight", ("blockIO", "weight"), _number, "N", "of 10 to 1000, for disks beside others"),
)


# of `linux.intelRdt`, which `--resources` says nothing of
SCHEMAS = (
    Limit("--l3-cache-schema", ("intelRdt", "l3CacheSchema"), str, "SCHEMA", "of the resctrl group, for the level 3 cache, as L3:0=7f0;1=1f"),
    Limit("--mem-bw-schema", ("intelRdt", "memBwSchema"), str, "SCHEMA", "of the resctrl group, for memory bandwidth, as MB:0=20;1=70"),
)


def update(runtime: NativeRuntime, options: Options) -> int:
    """What is not told stays as it is."""
    given, schemas = _given(options, LIMITS), _given(options, SCHEMAS).get("intelRdt")
    if options.resources is None:
        if not given and schemas is None:
            raise CommandError("nothing to change: a limit or --resources has to be given")
        _update(runtime, options.id, msgspec.json.encode(given), schemas)
        return 0
    if given:
        raise CommandError("--resources tells all limits, so none can be given besides")
    with contextlib.ExitStack() as held:
        file = sys.stdin.buffer if options.resources == "-" else held.enter_context(open(options.resources, "rb"))
        data = file.read()
    try:
        _update(runtime, options.id, data, schemas)
    except InvalidBundleError as error:
        if (error.json_path or "").startswith("$.linux."):  # of an option
            raise
        raise type(error)(None if options.resources == "-" else options.resources, error.json_path, error.reason) from error
    return 0


def _update(runtime: NativeRuntime, id: str, resources: bytes, schemas: dict[str, Any] | None) -> None:
    if schemas is None:
        runtime.update_container(id, resources)
    else:
        runtime.update_container(id, resources, intel_rdt=schemas)


def _given(options: Options, limits: tuple[Limit, ...]) -> dict[str, dict[str, Any]]:
    """The limits of the command line as `linux` has them."""
    found: dict[str, dict[str, Any]] = {}
    for limit in limits:
        value = getattr(options, limit.option.removeprefix("--").replace("-", "_"))
        if value is not None:
            found.setdefault(limit.field[0], {})[limit.field[1]] = value
    return found
