/* User namespaces that no process stays in: of the mappings of mounts. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "clone.h"
#include "host.h"
#include "raw.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

/* Runs in the caller's address space, as child.c's, so it may use nothing of the C library. It ends with the caller's thread, also
 * where that had ended before it said so: its parent is another one then. */
__attribute__((no_sanitize("address", "undefined"))) static void stay(void *parent)
{
    raw_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (raw_call(SYS_getppid, 0, 0, 0, 0, 0) == (long)parent)
        raw_call(SYS_ppoll, 0, 0, 0, 0, 0);
    for (;;)
        raw_call(SYS_exit_group, 1, 0, 0, 0, 0);
}

static int map_ids(struct host *host, const struct operation *op, long pid)
{
    char path[64];

    for (int text = 0; text < 2; text++) {
        const char *map = plan_text(host->plan, op, text), *name = text ? "gid_map" : "uid_map";
        snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
        int error = write_text(AT_FDCWD, path, map);
        if (error)
            return explain(host, error, text ? "write gid_map" : "write uid_map", map);
    }
    snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
    int fd = open_at(AT_FDCWD, path, O_RDONLY, 0, 0);
    return fd < 0 ? explain(host, fd, "open", path) : fd;
}

/* texts: uid_map, gid_map. The namespace needs a process while its maps are written, and is held by a descriptor afterwards. */
int make_user_namespace(struct host *host, const struct operation *op)
{
    char stack[4096] __attribute__((aligned(16)));
    int pidfd = -1;
    struct clone_args args = {.flags = CLONE_VM | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_NEWUSER,
                              .pidfd = (uint64_t)(uintptr_t)&pidfd,
                              .stack = (uint64_t)(uintptr_t)stack,
                              .stack_size = sizeof stack};
    uint64_t all = ~0ULL, saved;

    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &saved, sizeof all);
    long pid = clone_and_enter(&args, stay, (void *)(uintptr_t)getpid());
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &saved, NULL, sizeof saved);
    if (pid < 0)
        return explain(host, (int)pid, "clone3", NULL);
    int fd = map_ids(host, op, pid);
    kill_and_reap(pidfd);
    close(pidfd);
    if (fd < 0)
        return fd;
    host->slots[op->slot[0]] = fd;
    return 0;
}
