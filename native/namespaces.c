/* Namespaces and cgroups that the init enters. */
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "init.h"

OPERATION(join_cgroup)
{
    int *tasks = &init->slots[op->slot[0]];
    AUTO_FD fd = take_fd(tasks);

    /* "0" is the writer. A single thread that moves itself into `tasks` spares the kernel its global lock. */
    return write(fd, "0", 1) < 0 ? explain(init, -errno, "write") : 0;
}

/* Before a user namespace is joined that may deny it: there the caller's groups would stay. Without privileges they stay anyway. */
static int drop_groups(struct init *init)
{
    if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
        return explain(init, -errno, "setgroups");
    return 0;
}

/* Of a user namespace: its id maps are written by now. Numbers: uid, gid, whether the caller's groups are kept. */
OPERATION(become_namespace_root)
{
    /* else nothing of the caller's groups may remain; where setgroups is denied nobody can drop them */
    int error = op->number[2] ? 0 : drop_groups(init);
    uint64_t uid = op->number[0], gid = op->number[1];

    if (error)
        return error;
    if (syscall(SYS_setresgid, gid, gid, gid) < 0)
        return explain(init, -errno, "setresgid");
    if (syscall(SYS_setresuid, uid, uid, uid) < 0)
        return explain(init, -errno, "setresuid");
    prctl(PR_SET_DUMPABLE, 0);
    return 0;
}

/* numbers: type, whether the caller's groups are kept */
OPERATION(join_namespace)
{
    int fd = init->slots[op->slot[0]], error = op->number[0] & CLONE_NEWUSER && !op->number[1] ? drop_groups(init) : 0;

    if (error)
        return error;
    if (syscall(SYS_setns, fd, (int)op->number[0]) < 0)
        return explain(init, -errno, "setns");
    close(fd);
    return 0;
}

/* numbers: types, whether the caller's groups are kept */
OPERATION(join_process_namespaces)
{
    int pidfd = init->slots[op->slot[0]], error = op->number[0] & CLONE_NEWUSER && !op->number[1] ? drop_groups(init) : 0;

    if (error)
        return error;
    if (syscall(SYS_setns, pidfd, (int)op->number[0]) < 0)
        return explain(init, -errno, "setns");
    return 0;
}

int await_byte(struct init *init)
{
    char byte;
    ssize_t length = read(init->wire, &byte, 1);

    return length == 1 ? 0 : explain(init, length < 0 ? -errno : -EPIPE, "wait for the caller");
}

OPERATION(await_release)
{
    int error = await_byte(init);

    (void)op;
    if (init->is_traceable)
        prctl(PR_SET_DUMPABLE, 0);
    init->is_traceable = false;
    return error;
}

OPERATION(announce_network)
{
    struct message message = {.type = MESSAGE_NETWORK, .operation = -1};

    (void)op;
    return send(init->wire, &message, sizeof message, MSG_NOSIGNAL) < 0 ? explain(init, -errno, "tell of the network namespace") : 0;
}

OPERATION(unshare_namespaces)
{
    return syscall(SYS_unshare, (int)op->number[0]) < 0 ? explain(init, -errno, "unshare") : 0;
}

/* While this is the caller's still, on whose procfs: the file of a process that cannot be traced is root's, the one of the namespace that
 * the init's program was executed in. Which namespace is meant is found out when it is written. */
OPERATION(open_time_offsets)
{
    int fd = open_at(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY, 0, 0);

    if (fd < 0)
        return explain(init, fd, "open");
    init->slots[op->slot[0]] = fd;
    return 0;
}

/* The offsets can be written between making the namespace and entering it only. slot: the file, unless there are none. */
OPERATION(unshare_time_namespace)
{
    const char *offsets = plan_text(&init->plan, op, 0);

    if (syscall(SYS_unshare, CLONE_NEWTIME) < 0)
        return explain(init, -errno, "unshare");
    if (*offsets && write(init->slots[op->slot[0]], offsets, strlen(offsets)) < 0)
        return explain(init, -errno, "write timens_offsets");
    AUTO_FD namespace = open_at(AT_FDCWD, "/proc/self/ns/time_for_children", O_RDONLY, 0, 0);
    if (namespace < 0)
        return explain(init, namespace, "open time_for_children");
    return syscall(SYS_setns, namespace, CLONE_NEWTIME) < 0 ? explain(init, -errno, "setns") : 0;
}

/* The other end of what a predecessor tells its successor: a byte once the caller knows of it, then the end of file by its exit. */
static int await_predecessor(struct init *init, const int *ends)
{
    char byte;

    close(ends[1]);
    ssize_t told = read(ends[0], &byte, 1);
    if (told <= 0)
        return explain(init, told < 0 ? -errno : -EPIPE, "wait to be known");
    /* the program is not to find it among the processes of its cgroup */
    while (read(ends[0], &byte, 1) > 0)
        ;
    close(ends[0]);
    return 0;
}

int keep_wire_alone(struct init *init)
{
    if (!init->is_wire_alone && close_from((unsigned int)init->first_fd + 1, 0) < 0)
        return explain(init, -errno, "close_range");
    init->is_wire_alone = true;
    return 0;
}

/* A pid namespace that was joined is entered by a new process. It becomes the caller's child in this one's place
 * (CLONE_PARENT); this one hands over its pidfd and ends. A copy and not CLONE_VM: a process of the container may trace the new one,
 * and would have the memory of one that is not in the container's pid namespace yet.
 * numbers: 1 if nothing but the wire and what the user program gets may come along, 1 if this one has to be reaped first. */
OPERATION(enter_pid_namespace)
{
    int pidfd = -1, ends[2];
    int error = op->number[0] ? keep_wire_alone(init) : 0;

    if (error)
        return error;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return explain(init, -errno, "pipe2");
    /* not clone3, whose flags no filter can look into: those of engines have it fail */
    long pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD, NULL, &pidfd, NULL, NULL);
    if (pid < 0)
        return explain(init, -errno, "clone");
    if (pid == 0) {
        /* nothing may run that the caller has not heard of, since it would not reap it */
        error = await_predecessor(init, ends);
        return error || !op->number[1] ? error : await_release(init, op);
    }
    struct message message = {.type = MESSAGE_PROCESS, .operation = -1, .pid = (int32_t)pid};
    error = send_message(init->wire, &message, pidfd);
    if (error < 0 || write(ends[1], "", 1) < 0) {
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        return explain(init, error < 0 ? error : -errno, "tell the pid");
    }
    end_process(0);
}
