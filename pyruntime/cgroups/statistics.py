"""What a container uses, as the kernel counts it in its cgroups (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux).

The names are those that `runc events` has, which callers know. Times are in nanoseconds, memory in bytes; what is unlimited is as the
kernel tells it on v1, 2**64 - 1 on v2, and 0 for processes. What the host does not count is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pyruntime.cgroups.paths import Cgroup
from pyruntime.native import files

_UNLIMITED = 2**64 - 1
_HUGEPAGES = "/sys/kernel/mm/hugepages"


def statistics(cgroups: tuple[Cgroup, ...]) -> dict[str, Any]:
    """The parts `cpu`, `cpuset`, `memory`, `pids`, `blkio` and `hugetlb`. What disappears meanwhile is left out."""
    paths = {controller: cgroup.path for cgroup in cgroups for controller in cgroup.controllers if not cgroup.is_v2}
    unified = cgroups[0].path if len(cgroups) == 1 and cgroups[0].is_v2 else None
    if unified is not None:
        found = {"cpu": _cpu_v2(unified), "cpuset": _cpuset(unified), "memory": _memory_v2(unified), "pids": _pids(unified),
                 "blkio": _blkio_v2(unified), "hugetlb": _hugetlb(unified, "current", "max", "events")}
    else:
        readers = {"memory": _memory_v1, "pids": _pids, "blkio": _blkio_v1}
        found = {name: read(paths[name]) for name, read in readers.items() if name in paths}
        found["cpu"] = _cpu_v1(paths.get("cpuacct"), paths.get("cpu"))
        if "cpuset" in paths:
            found["cpuset"] = _cpuset_v1(paths["cpuset"])
        if "hugetlb" in paths:
            found["hugetlb"] = _hugetlb(paths["hugetlb"], "usage_in_bytes", "max_usage_in_bytes", "failcnt")
    return {name: part for name, part in found.items() if part}


def _text(path: str) -> str:
    """Empty for what is not there."""
    try:
        return files.read(path).decode()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    text = _text(path).strip()
    return _UNLIMITED if text == "max" else int(text) if text.lstrip("-").isdecimal() else None


def _keyed(path: str) -> dict[str, int]:
    """Of lines `name value`."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != {} and value != []}


def _cpu_v1(cpuacct: str | None, cpu: str | None) -> dict[str, Any]:
    usage, throttling = {}, {}
    if cpuacct is not None:
        tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        times = _keyed(f"{cpuacct}/cpuacct.stat")
        each = {name: [int(word) for word in _text(f"{cpuacct}/cpuacct.{file}").split()] for name, file in (
            ("percpu", "usage_percpu"), ("percpu_kernel", "usage_percpu_sys"), ("percpu_user", "usage_percpu_user"))}
        if times:
            usage = _known(total=_number(f"{cpuacct}/cpuacct.usage"), kernel=times.get("system", 0) * tick_ns,
                           user=times.get("user", 0) * tick_ns, **each)
    if cpu is not None:
        counted = _keyed(f"{cpu}/cpu.stat")
        throttling = _known(periods=counted.get("nr_periods"), throttledPeriods=counted.get("nr_throttled"),
                            throttledTime=counted.get("throttled_time"))
    return _known(usage=usage, throttling=throttling)


def _cpu_v2(path: str) -> dict[str, Any]:
    counted = _keyed(f"{path}/cpu.stat")

    def ns(name: str) -> int | None:
        return counted[name] * 1000 if name in counted else None

    return _known(usage=_known(total=ns("usage_usec"), kernel=ns("system_usec"), user=ns("user_usec")),
                  throttling=_known(periods=counted.get("nr_periods"), throttledPeriods=counted.get("nr_throttled"),
                                    throttledTime=ns("throttled_usec")), psi=_pressure(f"{path}/cpu.pressure"))


def _pressure(path: str) -> dict[str, dict[str, float | int]]:
    """How long processes waited (Documentation/accounting/psi.rst): percent, and microseconds as the total."""
    found = {}
    for line in _text(path).splitlines():
        kind, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        found[kind] = {name: int(value) if name == "total" else float(value) for name, value in values.items()}
    return found


def _numbers(text: str) -> list[int]:
    """`0-2,7` is 0, 1, 2, 7."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _cpuset(path: str) -> dict[str, Any]:
    return _known(cpus=_numbers(_text(f"{path}/cpuset.cpus")), mems=_numbers(_text(f"{path}/cpuset.mems")))


def _cpuset_v1(path: str) -> dict[str, Any]:
    names = ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
             "memory_pressure", "sched_load_balance", "sched_relax_domain_level")
    return {**_cpuset(path), **_known(**{name: _number(f"{path}/cpuset.{name}") for name in names})}


def _memory_v1(path: str) -> dict[str, Any]:
    def entry(name: str) -> dict[str, Any]:
        return _known(limit=_number(f"{path}/{name}.limit_in_bytes"), usage=_number(f"{path}/{name}.usage_in_bytes"),
                      max=_number(f"{path}/{name}.max_usage_in_bytes"), failcnt=_number(f"{path}/{name}.failcnt"))

    raw = _keyed(f"{path}/memory.stat")
    return _known(cache=raw.get("total_cache", raw.get("cache")), usage=entry("memory"), swap=entry("memory.memsw"),
                  kernel=entry("memory.kmem"), kernelTCP=entry("memory.kmem.tcp"), raw=raw)


def _memory_v2(path: str) -> dict[str, Any]:
    def entry(name: str) -> dict[str, Any]:
        return _known(limit=_number(f"{path}/{name}.max"), usage=_number(f"{path}/{name}.current"), max=_number(f"{path}/{name}.peak"),
                      failcnt=_keyed(f"{path}/{name}.events").get("max"))

    raw, memory, swap = _keyed(f"{path}/memory.stat"), entry("memory"), entry("memory.swap")
    # with memory, as v1 counts it; there is no peak of both
    both = {name: min(swap[name] + memory[name], _UNLIMITED) for name in ("limit", "usage") if name in swap and name in memory}
    return _known(cache=raw.get("file"), usage=memory, swap=both, raw=raw, psi=_pressure(f"{path}/memory.pressure"))


def _pids(path: str) -> dict[str, Any]:
    limit = _number(f"{path}/pids.max")
    return _known(current=_number(f"{path}/pids.current"), limit=0 if limit == _UNLIMITED else limit)


def _blkio_v1(path: str) -> dict[str, Any]:
    """Of BFQ where it schedules, else of what throttles."""
    def entries(file: str) -> list[dict[str, Any]]:
        words = [line.split() for line in _text(f"{path}/{file}").splitlines()]
        return [_entry(device, operation, int(value)) for device, operation, value in (word for word in words if len(word) == 3)]

    tables = (("ioServiceBytesRecursive", "io_service_bytes"), ("ioServicedRecursive", "io_serviced"))
    return _known(**{name: entries(f"blkio.bfq.{file}_recursive") or entries(f"blkio.throttle.{file}_recursive") for name, file in tables})


def _blkio_v2(path: str) -> dict[str, Any]:
    tables: dict[str, list[dict[str, Any]]] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    for line in _text(f"{path}/io.stat").splitlines():
        device, *words = line.split()
        values = dict(word.split("=", 1) for word in words if "=" in word)
        for table, unit in zip(tables.values(), ("bytes", "ios"), strict=True):
            table += [_entry(device, operation, int(values[f"{letter}{unit}"])) for letter, operation in
                      (("r", "Read"), ("w", "Write"), ("d", "Discard")) if f"{letter}{unit}" in values]
    return _known(**tables, psi=_pressure(f"{path}/io.pressure"))


def _entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": value}


def _hugetlb(path: str, usage: str, most: str, failures: str) -> dict[str, Any]:
    """By size, as in the names of the files."""
    found = {}
    for size in _huge_page_sizes():
        file = f"{path}/hugetlb.{size}."
        failed = _keyed(file + failures).get("max") if failures == "events" else _number(file + failures)
        found[size] = _known(usage=_number(file + usage), max=None if most == "max" else _number(file + most), failcnt=failed)
    return _known(**found)


def _huge_page_sizes() -> Iterable[str]:
    """`2MB`, `1GB` of `hugepages-2048kB`."""
    try:
        names = os.listdir(_HUGEPAGES)
    except FileNotFoundError:
        return
    for name in sorted(names):
        size, unit = int(name.removeprefix("hugepages-").removesuffix("kB")), 0
        while size >= 1024 and size % 1024 == 0:
            size, unit = size // 1024, unit + 1
        yield f"{size}{'KMGT'[unit]}B"
