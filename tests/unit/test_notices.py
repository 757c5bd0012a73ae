"""What is told goes to the logger `pyruntime` where somebody can listen to one, and to who listens without."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import pyruntime  # noqa: F401  # makes the logger
from pyruntime.notices import Notices, log


def shown_by(script: str) -> tuple[str, str]:
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ended.stdout, ended.stderr


def test_records_are_those_of_who_tells(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pyruntime"):
        log.debug("made %s: pid %d", "c1", 7)
        log.warning("100%")
        try:
            raise RuntimeError("defect")
        except RuntimeError:
            log.exception("it failed")
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("pyruntime", "DEBUG", "made c1: pid 7"), ("pyruntime", "WARNING", "100%"), ("pyruntime", "ERROR", "it failed")]
    assert {(Path(record.pathname).name, record.funcName) for record in caplog.records} == {
        ("test_notices.py", "test_records_are_those_of_who_tells")}
    assert "RuntimeError: defect" in caplog.text and caplog.records[1].exc_info is None


def test_a_level_that_is_not_wanted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pyruntime"):
        log.debug("made")
    assert caplog.records == []


def test_who_listens_without_a_logger() -> None:
    notices, heard, all_heard = Notices(), list[tuple[str, str]](), list[tuple[str, str]]()
    with notices.told_to(lambda *told: heard.append(told), "warning"), notices.told_to(lambda *told: all_heard.append(told), "debug"):
        notices.debug("made %s", "c1")
        notices.warning("100%")
    notices.warning("later")
    assert heard == [("warning", "100%")] and all_heard == [("debug", "made c1"), ("warning", "100%")]


def test_the_logger_is_there_once_the_package_is_imported() -> None:
    """Where `logging` was imported before, so that what configures loggers finds it."""
    assert shown_by("import logging, pyruntime; logger = logging.root.manager.loggerDict['pyruntime']; "
                    "print([type(handler).__name__ for handler in logger.handlers], logger.level)") == ("['NullHandler'] 0\n", "")


@pytest.mark.parametrize("imports", ["import logging, pyruntime", "import pyruntime, logging", "import pyruntime"])
def test_nothing_is_printed_where_nobody_configures_logging(imports: str) -> None:
    assert shown_by(f"{imports}\nfrom pyruntime.notices import log; log.warning('told')") == ("", "")


def test_logging_that_is_imported_and_configured_later() -> None:
    assert shown_by("import pyruntime; from pyruntime.notices import log; log.warning('before')\n"
                    "import logging; logging.basicConfig(); log.warning('after %s', 'that'); log.debug('not wanted')") == (
        "", "WARNING:pyruntime:after that\n")


def test_logging_is_not_imported() -> None:
    script = "import sys, pyruntime.runtimes.native; from pyruntime.notices import log; log.warning('x'); print('logging' in sys.modules)"
    assert shown_by(script) == ("False\n", "")
