"""Programs that race with, trace and search what the runtime puts next to them."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from attacks import ID, Attack, tree_hash

from pyruntime import StdioOptions
from pyruntime.errors import SetupError
from pyruntime.native import process
from pyruntime.testing.bundles import default_config

pytestmark = pytest.mark.privileged
Compile = Callable[[str, str], Path]

# swaps two names for ever, and counts in a shared page of a file
RACER = r"""
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int c, char **v) {
    volatile uint64_t *swaps = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open(v[3], O_RDWR), 0);
    for (; c;) if (syscall(SYS_renameat2, AT_FDCWD, v[1], AT_FDCWD, v[2], 2) == 0) ++*swaps;
}
"""

# PID 1, without tracing: what it sees of processes that join, until SIGTERM; "h0st" and the rest stand in the caller's memory
WATCHER = r"""
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static volatile sig_atomic_t stop;
static void on_term(int n) { (void)n; stop = 1; }
static char memory[1 << 20], path[300], line[500];
static struct stat own;
static int holds(const char *text, ssize_t length) { return length > 0 && memmem(memory, length, text, strlen(text)) != 0; }
static void search(int pid, int mem, const char *secret) {
    unsigned long from, to;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            for (unsigned long at = from; at < to; at += sizeof memory)
                if (holds(secret, pread(mem, memory, to - at < sizeof memory ? to - at : sizeof memory, at))) puts("ESCAPED memory");
    if (maps) fclose(maps);
}
int main(int c, char **v) {
    struct stat st; char secret[100]; long seen = 0, denied = 0, opened = 0;
    snprintf(secret, sizeof secret, "h0st-%s-secret", c > 1 ? v[1] : "");
    stat("/", &own); setvbuf(stdout, 0, _IONBF, 0); signal(SIGTERM, on_term); puts("READY");
    while (!stop) {
        DIR *d = opendir("/proc"); struct dirent *e;
        while ((e = readdir(d))) {
            int pid = atoi(e->d_name);
            if (pid < 2) continue;
            snprintf(path, sizeof path, "/proc/%d/mem", pid);
            int mem = open(path, O_RDWR);
            snprintf(path, sizeof path, "/proc/%d/comm", pid);
            int comm = open(path, O_RDONLY); ssize_t length = read(comm, memory, sizeof memory); close(comm);
            int is_init = holds("pyruntime-init", length);
            seen += is_init; denied += is_init && mem < 0;
            if (mem >= 0) {
                if (is_init && holds("pyruntime-init", pread(mem, memory, 65536, 0x400000))) opened++;
                search(pid, mem, secret); close(mem);
            }
            snprintf(path, sizeof path, "/proc/%d/root/.", pid);
            if (stat(path, &st) == 0 && (st.st_dev != own.st_dev || st.st_ino != own.st_ino)) puts("ESCAPED root");
            snprintf(path, sizeof path, "/proc/%d/cwd/.", pid);
            if (stat(path, &st) == 0 && st.st_dev != own.st_dev) puts("ESCAPED cwd");
            for (int fd = 0; fd < 32; fd++) {
                snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                if (stat(path, &st) == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) && st.st_dev != own.st_dev)
                    puts("ESCAPED fd");
            }
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            int exe = open(path, O_WRONLY);
            if (exe >= 0 && fstat(exe, &st) == 0 && st.st_dev != own.st_dev && write(exe, "", 1) == 1) puts("ESCAPED exe");
            if (exe >= 0) close(exe);
        }
        closedir(d);
    }
    printf("%ld %ld %ld\n", seen, denied, opened); return 0;
}
"""

# PID 1: prints what it reaches through a process that joins, and that it attached to it, until SIGTERM. argv: the user of what joins
SPY = r"""
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile sig_atomic_t stop;
static void on_term(int n) { (void)n; stop = 1; }
static char path[300], text[8192];
static unsigned long long own_sets[5];
static int read_status(const char *pid) {
    snprintf(path, sizeof path, "/proc/%s/status", pid);
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}
static void read_sets(unsigned long long *sets) {
    static const char *names[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};
    for (int i = 0; i < 5; i++) { char *at = strstr(text, names[i]); sets[i] = at ? strtoull(at + 7, 0, 16) : 0; }
}
static void look_at_identity(int uid) {
    unsigned long long sets[5]; int ids[4] = {-1}; char *at = strstr(text, "Uid:");
    if (!at || sscanf(at, "Uid: %d %d %d %d", ids, ids + 1, ids + 2, ids + 3) != 4) return;
    for (int i = 0; i < 4; i++) if (ids[i] != uid) puts("ESCAPED uid");
    read_sets(sets);
    for (int i = 0; i < 5; i++) if (sets[i] & ~own_sets[i]) puts("ESCAPED capabilities");
}
int main(int c, char **v) {
    struct stat own, st; long attached = 0, before_it_executes = 0; int uid = c > 1 ? atoi(v[1]) : 0;
    stat("/", &own); setvbuf(stdout, 0, _IONBF, 0); signal(SIGTERM, on_term);
    read_status("self"); read_sets(own_sets); puts("READY");
    while (!stop) {
        DIR *d = opendir("/proc"); struct dirent *e;
        while ((e = readdir(d))) {
            int pid = atoi(e->d_name);
            if (pid < 2) continue;
            int traced = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
            if (traced && read_status(e->d_name)) {
                attached++; before_it_executes += strstr(text, "Name:\tpyruntime-init\n") == text;
                look_at_identity(uid);
            }
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
    printf("%ld %ld\n", attached, before_it_executes); return 0;
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


class Swaps:
    """How often the racer has swapped."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(4096))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 4096)

    def count(self) -> int:
        return int.from_bytes(self._page[:8], sys.byteorder)


def read_line(out: BinaryIO) -> bytes:
    """Unbuffered programs write it in pieces."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(out.fileno(), 1)
    return line


@pytest.mark.parametrize("hooks", [{}, {"createContainer": [{"path": "/bin/true"}]}], ids=["mounted after", "mounted before"])
def test_mount_target_that_is_swapped(attack: Attack, compile_static: Compile, hooks: dict[str, Any]) -> None:
    """CVE-2021-30465: a shared volume's directory and a link to the host's root change places."""
    racer = compile_static("racer", RACER)
    volume = attack.directory / "volume"
    # the path that is mounted at exists on both sides of the swap, so that either can be found at any time
    (volume / "target" / "pts").mkdir(parents=True)
    (attack.rootfs / str(attack.canary).lstrip("/") / "pts").mkdir(parents=True)
    (volume / "link").symlink_to(attack.canary)
    mounts = [*default_config()["mounts"], {"destination": "/volume", "source": str(volume), "options": ["bind"]},
              {"destination": "/volume/target/pts", "type": "tmpfs", "source": "tmpfs"}]
    script = f"grep -q ' /volume/.*/pts ' /proc/self/mountinfo && echo volume; " \
             f"grep -q ' {attack.canary}/pts ' /proc/self/mountinfo && echo link"
    # with hooks the mounts are made while the host can still be reached by name
    bundle = attack.bundle(["/bin/sh", "-c", script], mounts=mounts, hooks=hooks)
    swaps = Swaps(attack.directory / "swaps")
    program = subprocess.Popen([racer, volume / "target", volume / "link", attack.directory / "swaps"])
    outcomes: Counter[str] = Counter()
    hit = 0
    # the image may be changed by what follows a link inside of it; the host's directory of that name may not
    canary = tree_hash(attack.canary)
    try:
        for _ in range(100):
            before = swaps.count()
            outcome = attack.try_run(bundle)
            hit += swaps.count() - before > 1
            outcomes[outcome.errno_name if isinstance(outcome, SetupError) else outcome[1].strip()] += 1
    finally:
        program.kill()
        program.wait()
    assert tree_hash(attack.canary) == canary
    # it was at work during most of them, and they did find either of the two
    assert hit > 50, (hit, outcomes)
    assert outcomes["volume"] and outcomes["link"], outcomes


def test_links_upwards_while_others_rename(attack: Attack, compile_static: Compile) -> None:
    """openat2(2): EAGAIN is said of ".." whenever anything on the host is renamed or mounted meanwhile, and asks to try again."""
    racer = compile_static("racer", RACER)
    for name in ("one", "two"):
        (attack.directory / name).mkdir()
    attack.replace("volume", "/../../tmp/../tmp")
    (attack.rootfs / "tmp" / "target").mkdir()
    mounts = [*default_config()["mounts"], {"destination": "/volume/target", "type": "tmpfs", "source": "attacked"}]
    bundle = attack.bundle(["/bin/grep", "-c", " /tmp/target .* attacked ", "/proc/self/mountinfo"], mounts=mounts,
                           process={"cwd": "/volume/target"})
    swaps = Swaps(attack.directory / "swaps")
    program = subprocess.Popen([racer, attack.directory / "one", attack.directory / "two", attack.directory / "swaps"])
    outcomes: Counter[str] = Counter()
    try:
        for _ in range(100):
            outcome = attack.try_run(bundle)
            outcomes[str(outcome)] += 1
    finally:
        program.kill()
        program.wait()
    assert swaps.count() > 1000
    assert outcomes == {"(0, '1\\n')": 100}


@pytest.mark.parametrize("traces", [False, True], ids=["default", "CAP_SYS_PTRACE"])
def test_exec_beside_a_watcher(attack: Attack, compile_static: Compile, traces: bool) -> None:
    """What joins cannot be opened; and who may open everything finds nothing of the host or of the caller in it."""
    shutil.copy(compile_static("watcher", WATCHER), attack.rootfs / "bin" / "watcher")
    names = ["CAP_SYS_PTRACE"] if traces else []
    sets = {name: names for name in ("bounding", "effective", "permitted")}
    word = os.urandom(8).hex()
    secret = bytearray(f"h0st-{word}-secret".encode()) * 1000
    pid = attack.runtime.create_container(ID, attack.bundle(["/bin/watcher", word], process={"capabilities": sets}),
                                          StdioOptions(create_out=True))
    out = attack.runtime.get_stdio_pipes(ID, pid).out
    assert out is not None
    attack.runtime.start_container(ID)
    assert read_line(out) == b"READY\n"
    for _ in range(300):
        process = attack.runtime.exec_process(ID, {"args": ["/bin/true"], "cwd": "/"}, StdioOptions())
        assert attack.runtime.wait_on_process(ID, process).exit_code == 0
        attack.runtime.delete_process(ID, process)
    attack.runtime.kill_container(ID, signal.SIGTERM)
    attack.runtime.wait_on_container(ID)
    text = os.read(out.fileno(), 65536).decode()
    assert secret and "ESCAPED" not in text
    seen, denied, opened = map(int, text.split())
    assert seen > 10, "the watcher never saw the init"
    if traces:
        assert opened > 0, "the watcher was always too late"
    else:
        assert opened == 0 and denied > 0


def test_exec_beside_a_tracer(attack: Attack, compile_static: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2016-9962: who is attached to before it executes has the rights of the program already, and nothing of the host."""
    monkeypatch.setattr(process, "SETUP_TIMEOUT_S", 1.0)
    shutil.copy(compile_static("spy", SPY), attack.rootfs / "bin" / "spy")
    sets = {name: ["CAP_SYS_PTRACE"] for name in ("bounding", "effective", "permitted")}
    pid = attack.runtime.create_container(ID, attack.bundle(["/bin/spy", "1000"], process={"capabilities": sets}),
                                          StdioOptions(create_out=True))
    out = attack.runtime.get_stdio_pipes(ID, pid).out
    assert out is not None
    attack.runtime.start_container(ID)
    assert read_line(out) == b"READY\n"
    succeeded = 0
    for _ in range(200):
        try:
            pid = attack.runtime.exec_process(ID, {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 1000, "gid": 1000}},
                                              StdioOptions())
        except SetupError:
            continue
        succeeded += attack.runtime.wait_on_process(ID, pid).exit_code == 0
        attack.runtime.delete_process(ID, pid)
    attack.runtime.kill_container(ID, signal.SIGTERM)
    attack.runtime.wait_on_container(ID)
    text = os.read(out.fileno(), 65536).decode()
    assert "ESCAPED" not in text
    attached, before_it_executed = map(int, text.split())
    assert succeeded > 100, "the tracer kept execs from succeeding"
    assert attached > 10 and before_it_executed > 0, "the tracer was always too late"


def test_device_that_the_rules_do_not_allow(attack: Attack, compile_static: Compile) -> None:
    shutil.copy(compile_static("node", NODE), attack.rootfs / "bin" / "node")
    sets = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    code, text = attack.run(attack.bundle(["/bin/node"], process={"capabilities": sets},
                                          mounts=[{**m, "options": [o for o in m.get("options", ()) if o != "nodev"]}
                                                  for m in default_config()["mounts"]]))
    assert (code, text.split()) == (0, ["0", "1"])
