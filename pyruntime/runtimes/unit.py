"""A container's systemd unit: started before there is a process of the container, changed while it runs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping

from pyruntime.cgroups import Unit, systemd
from pyruntime.cgroups.systemd import Property
from pyruntime.native import process as native
from pyruntime.native.encoder import EncodedPlan, encode
from pyruntime.plan.operations import AwaitRelease, Plan


@functools.cache
def _holder_plan() -> EncodedPlan:
    return encode(Plan((), (), (AwaitRelease(""),), 0, None, 0, 0))


@contextlib.contextmanager
def started_unit(unit: Unit | None, properties: Callable[[tuple[int, ...]], list[Property]],
                 json_paths: Mapping[str, str]) -> Iterator[None]:
    """A new unit, for as long as something is in its cgroup at the end; nothing where there is none.

    A scope begins with a process, and the container's is cloned into its cgroup. So until then another one holds it, which does
    nothing and ends with the caller.
    properties   of the unit, told the pids that it begins with
    json_paths   by name, of those that config.json states
    Raises SetupError, also if such a unit is active; that one is let be.
    """
    if unit is None:
        yield
        return
    if unit.is_slice:
        systemd.start_unit(unit, properties(()), json_paths)
        yield
        return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        holder = native.spawn(_holder_plan(), "", (null, null, null))
    finally:
        os.close(null)
    try:
        systemd.start_unit(unit, properties((holder.pid,)), json_paths)
        yield
    finally:
        holder.discard()
