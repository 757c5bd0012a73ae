"""podman with directories of its own, for all of its tests, and a client with each runtime."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import documented
from engine import CGROUP_DRIVER, PYRUNTIME, Engine, import_image, leaving_no_files, remove_cgroups, require, unmount_below, until

RUNTIMES = ("pyruntime", "crun")
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
NETWORK = """
[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"
"""
ENGINE = """
[engine]
tmp_dir = "{directory}/tmp"
cgroup_manager = "{driver}"
events_logger = "none"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""


def configure(directory: Path, cgroup_manager: str) -> dict[str, str]:
    """Write what podman reads, also the one that conmon calls when a container has ended; returns the variables that lead there."""
    # podman passes no --root on
    for name, program in (("pyruntime", PYRUNTIME), ("crun", "crun")):
        runtime = directory / name
        runtime.write_text(f'#!/bin/sh\nexec {program} --root {directory}/containers-{name} "$@"\n')
        runtime.chmod(0o755)
    runtimes = documented("/etc/containers/containers.conf", {
        "[engine]\n": ENGINE.format(directory=directory, driver=cgroup_manager), '["pyruntime"]': '["pyruntime", "crun"]',
        PYRUNTIME: f"{directory}/pyruntime"})
    network = NETWORK.format(directory=directory)
    (directory / "containers.conf").write_text(f'{CONFIGURATION}{network}{runtimes}crun = ["{directory}/crun"]\n')
    (directory / "storage.conf").write_text(STORAGE.format(directory=directory))
    return {"CONTAINERS_CONF": f"{directory}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf"}


@contextlib.contextmanager
def podman_alone() -> Iterator[Engine]:
    """With directories of its own, which hold the image."""
    require("podman", "conmon", "crun", "script")
    # podman takes no run directory whose path is longer than 50 characters
    directory = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
    # podman knows these hierarchies of v1, and makes directories where they would be mounted
    places = (f"/sys/fs/cgroup/{name}" for name in ("hugetlb", "net_cls", "net_prio", "perf_event"))
    with leaving_no_files("/run/libpod", "/run/containers", "/var/lib/containers", "/var/lib/cni", *places):
        engine = Engine(["podman"], configure(directory, CGROUP_DRIVER), [])
        try:
            import_image(engine, directory)
            yield engine
        finally:
            engine("rm", "-af")
            await_cleaning(directory)
            left = list(directory.glob("containers-*/[!.]*"))
            remove_parents()
            unmount_below(directory)
            shutil.rmtree(directory)
            assert left == []


def remove_parents() -> None:
    """Of the containers' cgroups. A conmon that has ended is in its own for a moment more; who else has containers there keeps them."""
    deadline = time.monotonic() + 2
    while True:
        remove_cgroups("libpod_parent/conmon", "libpod_parent")
        if time.monotonic() > deadline or not list(Path("/sys/fs/cgroup").glob("*/libpod_parent")):
            return
        time.sleep(0.05)


def await_cleaning(directory: Path) -> None:
    """Until the end of the commands that conmon has started when containers ended: they write to the storage."""
    deadline = time.monotonic() + 60
    while any(os.fsencode(directory) in command for command in commands()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def commands() -> Iterator[bytes]:
    """Of all processes, with their arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


@pytest.fixture(scope="session")
def podman(hugetlb_hierarchy: None) -> Iterator[Engine]:
    """One for all modules; crun refuses a host of which v2 has a controller, however little that is used."""
    with podman_alone() as engine:
        yield engine


def with_runtime(podman: Engine, runtime: str) -> Engine:
    """What its containers have in common: this runtime, and no network."""
    return Engine([*podman.command, "--runtime", runtime], podman.environment, ["--network=none"])


def remove(engine: Engine, id: str) -> None:
    """By force. What conmon has called for the container's end may be unmounting its files meanwhile, which then fails once."""
    until(lambda: engine("rm", "-f", "-t", "0", id).code == 0, "it is removed")
