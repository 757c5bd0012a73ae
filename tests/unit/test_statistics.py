"""What a container uses, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyruntime.cgroups import Cgroup, statistics


def fill(directory: Path, files: dict[str, str]) -> str:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


@pytest.fixture(autouse=True)
def _huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("2048kB", "1048576kB"):
        (tmp_path / f"huge/hugepages-{size}").mkdir(parents=True)
    monkeypatch.setattr(statistics, "_HUGEPAGES", str(tmp_path / "huge"))
    monkeypatch.setattr("os.sysconf", {"SC_CLK_TCK": 100}.__getitem__)


def test_v1(tmp_path: Path) -> None:
    memory = {f"memory.{infix}{name}": f"{value}\n" for infix in ("", "memsw.", "kmem.", "kmem.tcp.") for name, value in (
        ("limit_in_bytes", 400), ("usage_in_bytes", 300), ("max_usage_in_bytes", 350), ("failcnt", 2))}
    directories = {
        ("cpu", "cpuacct"): {"cpuacct.usage": "900\n", "cpuacct.stat": "user 3\nsystem 2\n", "cpuacct.usage_percpu": "400 500 \n",
                             "cpuacct.usage_percpu_sys": "1 2\n", "cpuacct.usage_percpu_user": "3 4\n",
                             "cpu.stat": "nr_periods 7\nnr_throttled 6\nthrottled_time 5\n"},
        ("memory",): {**memory, "memory.stat": "cache 1\ntotal_cache 9\n"},
        ("pids",): {"pids.current": "3\n", "pids.max": "max\n"},
        ("cpuset",): {"cpuset.cpus": "0-1,4\n", "cpuset.mems": "0\n", "cpuset.sched_relax_domain_level": "-1\n", "cpuset.cpu_exclusive": "0\n"},
        ("blkio",): {"blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Total 10\nTotal 10\n",
                     "blkio.bfq.io_serviced_recursive": "Total 0\n",
                     "blkio.throttle.io_serviced_recursive": "8:16 Write 4\nTotal 4\n"},
        ("hugetlb",): {"hugetlb.2MB.usage_in_bytes": "4096\n", "hugetlb.2MB.max_usage_in_bytes": "8192\n", "hugetlb.2MB.failcnt": "0\n"}}
    cgroups = tuple(Cgroup(fill(tmp_path / names[0], files), 0, names, False) for names, files in directories.items())
    entry = {"limit": 400, "usage": 300, "max": 350, "failcnt": 2}
    assert statistics.statistics((*cgroups, Cgroup("/nowhere", 0, (), True))) == {
        "cpu": {"usage": {"total": 900, "kernel": 20_000_000, "user": 30_000_000,
                          "percpu": [400, 500], "percpu_kernel": [1, 2], "percpu_user": [3, 4]},
                "throttling": {"periods": 7, "throttledPeriods": 6, "throttledTime": 5}},
        "cpuset": {"cpus": [0, 1, 4], "mems": [0], "cpu_exclusive": 0, "sched_relax_domain_level": -1},
        "memory": {"cache": 9, "usage": entry, "swap": entry, "kernel": entry, "kernelTCP": entry, "raw": {"cache": 1, "total_cache": 9}},
        "pids": {"current": 3, "limit": 0},
        "blkio": {"ioServiceBytesRecursive": [{"major": 8, "minor": 0, "op": "Read", "value": 10},
                                              {"major": 8, "minor": 0, "op": "Total", "value": 10}],
                  "ioServicedRecursive": [{"major": 8, "minor": 16, "op": "Write", "value": 4}]},
        "hugetlb": {"2MB": {"usage": 4096, "max": 8192, "failcnt": 0}}}


def test_v2(tmp_path: Path) -> None:
    path = fill(tmp_path / "unified", {
        "cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
        "cpu.pressure": "some avg10=0.50 avg60=1.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "cpuset.cpus": "\n", "cpuset.mems": "0\n", "memory.current": "300\n", "memory.max": "400\n", "memory.peak": "350\n",
        "memory.events": "low 0\nmax 2\noom_kill 1\n", "memory.swap.current": "10\n", "memory.swap.max": "max\n",
        "memory.stat": "anon 1\nfile 9\n",
        "pids.current": "3\n", "pids.max": "20\n", "io.stat": "8:0 rbytes=10 wbytes=0 rios=4 wios=0 dbytes=0 dios=0\n253:0 \n",
        "hugetlb.1GB.current": "0\n", "hugetlb.1GB.events": "max 5\n"})
    entry = {"major": 8, "minor": 0}
    assert statistics.statistics((Cgroup(path, 0, (), True),)) == {
        "cpu": {"usage": {"total": 9000, "kernel": 4000, "user": 5000},
                "throttling": {"periods": 3, "throttledPeriods": 2, "throttledTime": 1000},
                "psi": {"some": {"avg10": 0.5, "avg60": 1.0, "avg300": 0.0, "total": 77},
                        "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0}}},
        "cpuset": {"mems": [0]},
        "memory": {"cache": 9, "usage": {"limit": 400, "usage": 300, "max": 350, "failcnt": 2}, "swap": {"limit": 2**64 - 1, "usage": 310},
                   "raw": {"anon": 1, "file": 9}},
        "pids": {"current": 3, "limit": 20},
        "blkio": {"ioServiceBytesRecursive": [{**entry, "op": "Read", "value": 10}, {**entry, "op": "Write", "value": 0},
                                              {**entry, "op": "Discard", "value": 0}],
                  "ioServicedRecursive": [{**entry, "op": "Read", "value": 4}, {**entry, "op": "Write", "value": 0},
                                          {**entry, "op": "Discard", "value": 0}]},
        "hugetlb": {"1GB": {"usage": 0, "failcnt": 5}}}


def test_what_has_disappeared(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert statistics.statistics((Cgroup(gone, 0, (), True),)) == {}
    assert statistics.statistics((Cgroup(gone, 0, ("cpu", "cpuacct", "memory"), False),)) == {}
