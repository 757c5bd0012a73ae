"""Facts of the host, from made-up sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyruntime.errors import UnsupportedHostError
from pyruntime.host import Hierarchy, check_kernel, parse_hierarchies, parse_kernel, parse_resctrl


@pytest.mark.parametrize(("release", "kernel"), [
    ("6.1.0-23-amd64", (6, 1)), ("5.14", (5, 14)), ("5.15-rc3", (5, 15)), ("6.12+", (6, 12)), ("7", (7, 0)),
])
def test_kernel_versions(release: str, kernel: tuple[int, int]) -> None:
    assert parse_kernel(release) == kernel


def test_a_kernel_that_is_too_old() -> None:
    check_kernel((5, 14))
    check_kernel((6, 0))
    with pytest.raises(UnsupportedHostError, match=r"Linux 5\.13 is too old: pyruntime needs 5\.14"):
        check_kernel((5, 13))


def test_every_runtime_object_is_refused_on_a_kernel_that_is_too_old(tmp_path: Path) -> None:
    """The kernel says that it is another one (personality(2), UNAME26)."""
    script = "import sys; from pyruntime import NativeRuntime; NativeRuntime(sys.argv[1])"
    ended = subprocess.run(["setarch", "--uname-2.6", sys.executable, "-c", script, str(tmp_path / "root")], capture_output=True, text=True,
                           check=False)
    assert ended.stderr.splitlines()[-1] == ("pyruntime.errors.UnsupportedHostError: Linux 2.6 is too old: pyruntime needs 5.14 or newer")
    assert ended.returncode == 1 and not (tmp_path / "root").exists()


def test_hierarchies_of_mountinfo() -> None:
    mountinfo = "\n".join((
        "22 1 0:20 / / rw - overlay overlay rw,lowerdir=/a",
        "30 22 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct",
        r"31 22 0:27 / /sys/fs/with\040space rw - cgroup cgroup rw,memory",
        "32 22 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/bin/x,name=systemd",
        "33 22 0:29 / /sys/fs/cgroup/unified rw master:1 shared:2 - cgroup2 cgroup2 rw,nsdelegate",
        "34 22 0:27 / /elsewhere rw - cgroup cgroup rw,memory",
        "35 22 0:29 / /elsewhere2 rw - cgroup2 cgroup2 rw",
    ))
    assert parse_hierarchies(mountinfo) == (
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", False, ("cpu", "cpuacct")),
        Hierarchy("/sys/fs/with space", False, ("memory",)),
        Hierarchy("/sys/fs/cgroup/systemd", False, ("name=systemd",)),
        Hierarchy("/sys/fs/cgroup/unified", True),
    )


def test_a_mount_point_that_is_not_ascii() -> None:
    (found,) = parse_hierarchies("33 22 0:29 / /srv/größe\\134x rw - cgroup2 cgroup2 rw")
    assert found.mount_point == "/srv/größe\\x"


@pytest.mark.conformance(47)
def test_where_resctrl_is_mounted() -> None:
    other = "22 1 0:20 / /sys/fs/resctrl rw - tmpfs resctrl rw"
    assert parse_resctrl(other) is None
    assert parse_resctrl(f"{other}\n40 22 0:40 / /srv/resctrl\\040x rw shared:3 - resctrl none rw,cdp\n41 22 0:41 / /y rw - resctrl resctrl rw"
                         ) == "/srv/resctrl x"
