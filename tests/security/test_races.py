"""Programs that race with, trace and search what the runtime puts next to them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import Attack

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.native import process
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged
ID = f"attack-{os.getpid()}"
Compile = Callable[[str, str], Path]

RACER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int c, char **v) { (void)c; for (;;) syscall(SYS_renameat2, AT_FDCWD, v[1], AT_FDCWD, v[2], 2); }
"""

# PID 1: prints what it reaches through a process that joins
SPY = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    struct stat own, st; char path[300];
    stat("/", &own); setvbuf(stdout, 0, _IONBF, 0); puts("READY");
    for (;;) {
        DIR *d = opendir("/proc"); struct dirent *e;
        while ((e = readdir(d))) {
            int pid = atoi(e->d_name);
            if (pid < 2) continue;
            int traced = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
            snprintf(path, sizeof path, "/proc/%d/root/.", pid);
            if (stat(path, &st) == 0 && (st.st_dev != own.st_dev || st.st_ino != own.st_ino)) puts("ESCAPED root");
            for (int fd = 0; fd < 64; fd++) {
                snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                if (stat(path, &st) == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) && st.st_dev != own.st_dev)
                    puts("ESCAPED fd");
            }
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            int exe = open(path, O_WRONLY);
            if (exe >= 0 && fstat(exe, &st) == 0 && st.st_dev != own.st_dev && write(exe, "", 1) == 1) puts("ESCAPED exe");
            if (exe >= 0) close(exe);
            if (traced && ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0 && waitpid(pid, 0, __WALL) == pid)
                ptrace(PTRACE_DETACH, pid, 0, 0);
        }
        closedir(d);
        while (waitpid(-1, 0, WNOHANG) > 0);
    }
}
"""

NODE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
int main(void) {
    int made = mknod("/dev/disk", S_IFBLK | 0600, makedev(254, 0)), fd = open("/dev/disk", O_RDONLY);
    printf("%d %d\n", made, fd < 0 ? errno : 0); return 0;
}
"""


def test_mount_target_that_is_swapped(attack: Attack, compile_static: Compile) -> None:
    """CVE-2021-30465: a shared volume's directory and a link to the host's root change places."""
    racer = compile_static("racer", RACER)
    volume = attack.directory / "volume"
    (volume / "target").mkdir(parents=True)
    (volume / "link").symlink_to("/")
    mounts = [*default_config()["mounts"], {"destination": "/volume", "source": str(volume), "options": ["bind"]},
              {"destination": f"/volume/target/{attack.canary}/pts", "type": "tmpfs", "source": "tmpfs"}]
    bundle = attack.bundle(["/bin/true"], mounts=mounts)
    program = subprocess.Popen([racer, volume / "target", volume / "link"])
    try:
        for _ in range(100):
            attack.try_run(bundle)
    finally:
        program.kill()
        program.wait()


def test_exec_beside_a_tracer(attack: Attack, compile_static: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2016-9962."""
    monkeypatch.setattr(process, "SETUP_TIMEOUT_S", 1.0)
    shutil.copy(compile_static("spy", SPY), attack.rootfs / "bin" / "spy")
    sets = {name: ["CAP_SYS_PTRACE"] for name in ("bounding", "effective", "permitted")}
    pid = attack.runtime.create_container(ID, attack.bundle(["/bin/spy"], process={"capabilities": sets}),
                                          StdioOptions(create_out=True))
    out = attack.runtime.get_stdio_pipes(ID, pid).out
    assert out is not None
    attack.runtime.start_container(ID)
    assert os.read(out.fileno(), 100) == b"READY\n"
    for _ in range(200):
        try:
            pid = attack.runtime.exec_process(ID, {"args": ["/bin/true"], "cwd": "/"}, StdioOptions())
        except SetupError:
            continue
        attack.runtime.wait_on_process(ID, pid)
        attack.runtime.delete_process(ID, pid)
    attack.runtime.kill_container(ID, 9)
    attack.runtime.wait_on_container(ID)
    assert os.read(out.fileno(), 65536) == b""


def test_device_that_the_rules_do_not_allow(attack: Attack, compile_static: Compile) -> None:
    shutil.copy(compile_static("node", NODE), attack.rootfs / "bin" / "node")
    sets = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    code, text = attack.run(attack.bundle(["/bin/node"], process={"capabilities": sets},
                                          mounts=[{**m, "options": [o for o in m.get("options", ()) if o != "nodev"]}
                                                  for m in default_config()["mounts"]]))
    assert (code, text.split()) == (0, ["0", "1"])
