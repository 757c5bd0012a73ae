"""conmon is killed while a container runs, of this runtime's or of crun's: the container goes on until podman removes it.

conmon would have had the runtime delete it. Without it podman does not, whichever runtime it is, and the runtime's own command can.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path

import pytest
from containerd import end
from engine import COMMAND_TIMEOUT_S, Engine
from podman import RUNTIMES, with_runtime

pytestmark = pytest.mark.privileged


@pytest.fixture(params=RUNTIMES)
def engine(request: pytest.FixtureRequest, podman: Engine) -> Engine:
    return with_runtime(podman, request.param)


def test_conmon_is_killed(engine: Engine) -> None:
    id = engine.run("-d", "box", "sh", "-c", "sleep 1000 & exec sleep 1000").out.splitlines()[-1]
    runtime = engine.succeed("info", "--format", "{{.Host.OCIRuntime.Path}}")
    pid, conmon = (int(text) for text in engine.succeed("inspect", "--format", "{{.State.Pid}} {{.State.ConmonPid}}", id).split())
    cgroup = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].partition("::")[2]
    descriptor = os.pidfd_open(pid)
    try:
        end(conmon)
        state = json.loads(subprocess.run([runtime, "state", id], capture_output=True, check=True).stdout)
        assert (state["status"], state["pid"]) == ("running", pid)
        assert id in subprocess.run([runtime, "list", "-q"], capture_output=True, text=True, check=True).stdout.split()
        assert engine("exec", id, "sh", "-c", "exit 6").code == 6
        assert id[:12] in engine.succeed("ps", "-q").split()
        engine.succeed("rm", "-f", "-t", "0", id)
        assert select.select([descriptor], [], [], COMMAND_TIMEOUT_S)[0]
    finally:
        os.close(descriptor)
    assert id[:12] not in engine.succeed("ps", "-aq").split()
    assert json.loads(subprocess.run([runtime, "state", id], capture_output=True, check=True).stdout)["status"] == "stopped"
    subprocess.run([runtime, "delete", "--force", id], check=True)
    assert subprocess.run([runtime, "list", "-q"], capture_output=True, text=True, check=True).stdout == ""
    places = [Path(mounted + cgroup) for mounted in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids")]
    assert not any(place.exists() for place in places) and id not in Path("/proc/self/mountinfo").read_text()
