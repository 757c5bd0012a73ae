"""The floor (floor.c) as a contender."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from bench.coprocess import Coprocess
from bench.samples import ContenderError, Sample

SOURCES = ("floor.c", "floor_cgroups.c", "floor_init.c")


def build_floor(directory: Path) -> Path:
    """Compile it. musl's wrapper finds no kernel headers by itself, and they must come after its own."""
    binary = directory / "floor"
    here = Path(__file__).parent
    headers = ("/usr/include", f"/usr/include/{platform.machine()}-linux-gnu")
    command = ["musl-gcc", *(f"-idirafter{path}" for path in headers)]
    command += ["-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", str(binary)]
    command += [str(here / source) for source in SOURCES]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ContenderError("musl-gcc is not installed") from None
    except subprocess.CalledProcessError as error:
        raise ContenderError(f"does not compile: {error.stderr}") from error
    return binary


class Floor:
    name = "floor"

    def __init__(self, binary: Path, rootfs: Path) -> None:
        self._binary, self._rootfs = binary, rootfs
        self._coprocess = Coprocess([str(binary), str(rootfs)])

    def another(self) -> Floor:
        """A second process of the same program."""
        return Floor(self._binary, self._rootfs)

    def cycle(self) -> Sample:
        return self._coprocess.ask("cycle")

    def steps(self) -> Sample:
        """Nanoseconds of each step of one create."""
        steps: Sample = self._coprocess.ask("steps")["steps"]
        return steps

    def run_sleep(self) -> int:
        return int(self._coprocess.ask("run")["pid"])

    def execute(self) -> Sample:
        return self._coprocess.ask("exec")

    def create(self) -> int:
        return int(self._coprocess.ask("create")["pid"])

    def remove(self) -> None:
        self._coprocess.ask("drop")

    def close(self) -> None:
        self._coprocess.close()
