"""A process that answers each line on its standard input with one line of JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.samples import ContenderError

CLOSE_TIMEOUT_S = 30


class Coprocess:
    """At the end of its input it removes what it made. Ctrl-C must not reach it before: it has its own session."""

    def __init__(self, arguments: Sequence[str], directory: Path | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=directory,
            start_new_session=True,
            text=True,
            bufsize=1,
        )

    def ask(self, line: str) -> dict[str, Any]:
        """Send one command, return the answer. Raises ContenderError."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ContenderError(f"no answer to '{line}': {self._last_error() or 'no message'}")
        decoded: dict[str, Any] = json.loads(answer)
        if "error" in decoded:
            raise ContenderError(decoded["error"])
        return decoded

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before it read everything
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
