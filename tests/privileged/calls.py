"""A static program for containers that makes one system call and tells how it went."""

from __future__ import annotations

import subprocess
from pathlib import Path

# number, then arguments in any base: prints the result, or the errno below 0
SOURCE = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long operands[7] = {0};

    for (int i = 1; i < argc && i < 8; i++)
        operands[i - 1] = (long)strtoull(argv[i], NULL, 0);
    long result = syscall(operands[0], operands[1], operands[2], operands[3], operands[4], operands[5], operands[6]);
    printf("%ld\n", result < 0 ? -(long)errno : result);
    return 0;
}
"""


def compile_caller(directory: Path) -> Path:
    """`call NUMBER ARGUMENT...`"""
    source = directory / "call.c"
    source.write_text(SOURCE)
    target = directory / "call"
    subprocess.run(["gcc", "-static", "-O1", "-o", str(target), str(source)], check=True)
    return target
