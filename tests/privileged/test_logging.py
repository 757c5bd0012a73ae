"""Log records go to the logger `pyruntime`; nothing is written to standard output or standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys

import pytest
from lab import Lab

from pyruntime import StdioOptions
from pyruntime.errors import ContainerRuntimeError

PIPES = StdioOptions(create_in=True, create_out=True, create_err=True)


def use_everything(lab: Lab) -> list[str]:
    """All 17 operations on a container, and those that fail; the names of the errors."""
    runtime, failed = lab.runtime, []
    bundle = lab.bundle(["/bin/cat"], process={"capabilities": {"bounding": ["CAP_NOT_YET"]}})
    pid = runtime.create_container("p1", bundle, PIPES)
    runtime.start_container("p1")
    other = runtime.exec_process("p1", {"args": ["/bin/sh", "-c", "echo out; echo err >&2"], "cwd": "/"}, PIPES)
    runtime.wait_on_process("p1", other)
    for query in (runtime.get_container_state, runtime.container_exists, runtime.get_init_pid,
                  runtime.get_running_container_processes, runtime.get_all_container_processes):
        query("p1")
    runtime.get_stdio_pipes("p1", pid)
    runtime.delete_process("p1", other)
    runtime.pause_container("p1")
    runtime.resume_container("p1")
    unreadable = lab.root / "p2"
    unreadable.mkdir()
    (unreadable / "state.json").write_text("{")
    assert [state.id for state in runtime.list_container_states()] == ["p1"]
    for act in (lambda: runtime.create_container("p1", bundle, PIPES), lambda: runtime.create_container("p3", "/none", PIPES),
                lambda: runtime.create_container("p3", lab.bundle("true", process={"cwd": "/etc/passwd"}), PIPES),
                lambda: runtime.create_container("p3", lab.bundle("true", process={"scheduler": {"policy": "SCHED_ISO"}}), PIPES),
                lambda: runtime.exec_process("p1", {"args": ["/absent"], "cwd": "/"}, PIPES),
                lambda: runtime.start_container("p1"), lambda: runtime.resume_container("p1"),
                lambda: runtime.delete_container("p1"), lambda: runtime.get_container_state("p2"),
                lambda: runtime.wait_on_process("p1", 1), lambda: runtime.kill_container("p9", 9)):
        try:
            act()
        except ContainerRuntimeError as error:
            failed.append(type(error).__name__)
    runtime.kill_container("p1", signal.SIGKILL)
    runtime.wait_on_container("p1")
    runtime.delete_container("p1")
    runtime.delete_container("p2", force=True)
    lab.create(["/absent"], "p3")
    with contextlib.suppress(ContainerRuntimeError):
        runtime.start_container("p3")
        failed.append("nothing")
    return failed


FAILURES = ["ContainerExistsError", "InvalidBundleError", "SetupError", "UnsupportedFieldError", "SetupError", "NotCreatedError",
            "NotPausedError", "NotStoppedError", "DamagedStateError", "ProcessNotFoundError", "ContainerNotFoundError"]


def test_nothing_is_written(lab: Lab, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert use_everything(lab) == FAILURES
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    records = [record for record in caplog.records if record.name.split(".")[0] == "pyruntime"]
    assert {record.name for record in records} == {"pyruntime"} and records == caplog.records
    messages = [(record.levelname, record.getMessage()) for record in records]
    for level, part in (("DEBUG", "created container p1"), ("WARNING", "CAP_NOT_YET"), ("WARNING", "left out of the list"),
                        ("WARNING", "removing container p2"), ("DEBUG", "deleted container p1")):
        assert any(where == level and part in message for where, message in messages), (level, part)


QUIET = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lab import Lab
from test_logging import FAILURES, use_everything
assert use_everything(Lab(Path(sys.argv[2]))) == FAILURES
"""


def test_nothing_is_written_where_nobody_configures_logging(lab: Lab) -> None:
    """A library whose logger has no handler would be printed by Python's handler of last resort."""
    done = subprocess.run([sys.executable, "-c", QUIET, os.path.dirname(__file__), str(lab.directory / "other")],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
