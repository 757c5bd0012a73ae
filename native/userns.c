/* User namespaces that no process stays in: of the mappings of mounts. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

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

/* 1: the next message is of that type; it stays unread. 0: another one is, or there will be none. */
static int await_message(struct host *host, uint32_t type)
{
    const struct timespec *deadline = &host->child->deadline;
    struct pollfd entry = {.fd = host->wire, .events = POLLIN};
    struct message message;
    struct timespec now;
    int got;

    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left_ms = (deadline->tv_sec - now.tv_sec) * INT64_C(1000) + (deadline->tv_nsec - now.tv_nsec) / 1000000;
        got = (int)checked(poll(&entry, 1, left_ms < 0 ? 0 : (int)left_ms));
    } while (got == -EINTR);
    if (got <= 0)
        return got ? got : -ETIMEDOUT;
    return recv(host->wire, &message, sizeof message, MSG_PEEK | MSG_DONTWAIT) == sizeof message && message.type == type;
}

/* slot: a user namespace; number: 1 for recursive. Of the mount that the init offers next; an init that has failed says so later. */
int map_offered_mount(struct host *host, const struct operation *op)
{
    struct message message;
    int fd, got = await_message(host, MESSAGE_MOUNT);

    if (got <= 0)
        return got ? explain(host, got, "wait for the mount", NULL) : 0;
    got = receive_message(host->wire, &message, &fd);
    AUTO_FD mount = fd;
    if (got != 1 || mount < 0)
        return explain(host, got < 0 ? got : -EPIPE, "receive the mount", NULL);
    int error = map_ids_of_mount(mount, host->slots[op->slot[0]], op->number[0]);
    if (error)
        return explain(host, error, error == -EINVAL ? NO_MAPPED_MOUNTS : "map the ids", NULL);
    error = release_process(host->wire);
    return error && !has_left(error) ? explain(host, error, "release the child", NULL) : 0;
}
