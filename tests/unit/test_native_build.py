"""What the build makes, and what it says where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# nothing in the init may allocate, lock, or buffer
REFUSED = {"malloc", "calloc", "realloc", "free", "printf", "fprintf", "snprintf", "vsnprintf", "fopen", "fwrite", "puts",
           "pthread_mutex_lock", "pthread_create"}


def test_the_init_does_not_allocate_lock_or_buffer(tmp_path: Path) -> None:
    script = ("import build, subprocess, sys; d = [x for i in build.include_directories() for x in ('-idirafter', str(i))]\n"
              "for n in build.INIT_SOURCES: subprocess.run([build.find_musl_gcc(), '-std=gnu11', '-Os', *d, '-c', "
              "str(build.NATIVE / f'{n}.c'), '-o', f'{sys.argv[1]}/{n}.o'], check=True)")
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True)
    objects = sorted(tmp_path.glob("*.o"))
    assert objects
    shown = subprocess.run(["nm", "-u", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    assert not REFUSED & {line.split()[-1] for line in shown.splitlines() if line.strip().startswith("U ")}


def test_a_missing_compiler_is_one_line() -> None:
    result = subprocess.run([sys.executable, "-c", "import build; build.find_musl_gcc()"], cwd=ROOT, text=True,
                            capture_output=True, env=os.environ | {"MUSL_GCC": "/nowhere"}, check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and "musl-tools" in result.stderr
