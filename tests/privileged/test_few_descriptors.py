"""A caller that may open one more descriptor."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, cgroup_file

from pyruntime.errors import SetupError
from pyruntime.native import process
from pyruntime.native.encoder import encode
from pyruntime.plan import operations as op
from pyruntime.plan.operations import Plan

pytestmark = pytest.mark.privileged


@pytest.fixture
def populated() -> Iterator[Path]:
    """A cgroup with a process in it."""
    path = cgroup_file("pids", "", "", "p-populated")
    path.mkdir(parents=True)
    program = subprocess.Popen(["sleep", "1000"])
    (path / "cgroup.procs").write_text(str(program.pid))
    yield path
    program.kill()
    program.wait()
    path.rmdir()


def test_a_cgroup_that_cannot_be_looked_into_is_refused(lab: Lab, populated: Path) -> None:
    """What is in it would be killed with the container."""
    encoded = encode(Plan((op.MakeCgroup("", os.fsencode(populated), 1, 0, 0),), (), (), 0, None, 0, 0))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process._get_init()
    null = os.open("/dev/null", os.O_RDWR)
    # the directory takes this number, and there is none for the list of what is in it
    free = os.dup(null)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
    try:
        with pytest.raises(SetupError) as caught:
            process.spawn(encoded, "p1", (null, null, null))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(null)
    assert (caught.value.step, caught.value.errno_name) == ("make cgroup", "EMFILE")
    assert lab.runtime.list_container_states() == []
