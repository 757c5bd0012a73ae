/* The hooks that run in the container: they are children of the init. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "init.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define OUTPUT_KEPT (MESSAGE_DETAIL - 1)

OPERATION(announce_hooks)
{
    struct message message = {.type = MESSAGE_HOOKS, .operation = -1};

    (void)op;
    return send(init->wire, &message, sizeof message, MSG_NOSIGNAL) < 0 ? explain(init, -errno, "tell of hooks") : 0;
}

static int64_t now_ms(void)
{
    struct timespec now;

    /* the C library's way by the vDSO is a kilobyte of code */
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static int write_whole(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t written = write(fd, text, length);
        if (written < 0)
            return -errno;
        text += written;
        length -= (size_t)written;
    }
    return 0;
}

/* The state as a file that the hook reads, or does not: nobody has to be there to write it. */
static int write_state(const char *before_pid, const char *after_pid, int *ret_fd)
{
    char pid[12], *digit = pid + sizeof pid;
    AUTO_FD fd = memfd_create("pyruntime-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int error = fd < 0 ? -errno : 0;

    /* as seen by the container (runtime.md, "State") */
    for (int left = getpid(); left || digit == pid + sizeof pid; left /= 10)
        *--digit = (char)('0' + left % 10);
    if (!error)
        error = write_whole(fd, before_pid, strlen(before_pid));
    if (!error)
        error = write_whole(fd, digit, (size_t)(pid + sizeof pid - digit));
    if (!error)
        error = write_whole(fd, after_pid, strlen(after_pid));
    if (!error && (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0))
        error = -errno;
    if (!error)
        *ret_fd = take_fd(&fd);
    return error;
}

/* What there is, of which the end is kept; false: nobody will write any more. */
static bool take_output(int fd, char *kept)
{
    char chunk[1024];
    ssize_t length;

    while ((length = read(fd, chunk, sizeof chunk)) > 0) {
        size_t added = (size_t)length > OUTPUT_KEPT ? OUTPUT_KEPT : (size_t)length;
        size_t held = strnlen(kept, OUTPUT_KEPT);
        size_t stays = held > OUTPUT_KEPT - added ? OUTPUT_KEPT - added : held;
        memmove(kept, kept + held - stays, stays);
        memcpy(kept + stays, chunk + length - added, added);
        kept[stays + added] = 0;
        for (size_t i = stays; i < stays + added; i++)
            if (!kept[i])
                kept[i] = ' ';
    }
    return length < 0;
}

/* Until the process ends, whoever else holds its output: 0, or -ETIME once timeout_s (0: none) are over. */
static int attend_hook(int pidfd, int output, uint64_t timeout_s, char *kept)
{
    struct pollfd entries[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = output, .events = POLLIN}};
    int64_t deadline = timeout_s && timeout_s < INT32_MAX ? now_ms() + (int64_t)timeout_s * 1000 : INT64_MAX;

    while (!entries[0].revents) {
        int64_t left = deadline == INT64_MAX ? -1 : deadline - now_ms();
        if (deadline != INT64_MAX && left <= 0)
            return -ETIME;
        if (poll(entries, 2, left > INT_MAX ? INT_MAX : (int)left) < 0 && errno != EINTR)
            return -errno;
        if (entries[1].fd >= 0 && !take_output(output, kept))
            entries[1].fd = -1;
    }
    if (entries[1].fd >= 0)
        take_output(output, kept);
    return 0;
}

static int watch_hook(struct init *init, const struct hook *hook, int output, uint64_t timeout_s)
{
    siginfo_t info = {0};
    int error = attend_hook(hook->pidfd, output, timeout_s, init->detail);

    if (error) {
        kill(-hook->pid, SIGKILL);
        syscall(SYS_pidfd_send_signal, hook->pidfd, SIGKILL, NULL, 0);
    }
    while (syscall(SYS_waitid, P_PIDFD, hook->pidfd, &info, WEXITED | __WALL, NULL) < 0)
        if (errno != EINTR)
            return explain(init, -errno, "wait for the hook");
    if (error && error != -ETIME)
        return explain(init, error, "poll");
    if (!error && info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    init->hook.code = error ? HOOK_TIMEOUT : info.si_code;
    init->hook.status = info.si_status;
    return -HOOK_FAILED;
}

/* The filter that the program will have: that of a later operation. Nobody is notified of what a hook calls (such calls fail with ENOSYS): the
 * kernel has one listener, which is the program's. */
static int filter_hook(const struct init *init, struct hook *hook, struct sock_fprog *ret_program)
{
    const struct plan *plan = &init->plan;
    uint32_t i = 0;

    while (i < plan->header->init_count && plan->init[i].kind != OP_INSTALL_FILTER)
        i++;
    if (i == plan->header->init_count)
        return -EBADMSG;
    const struct operation *op = &plan->init[i];
    int error = filter_of(init, op, ret_program);
    hook->filter = ret_program;
    hook->filter_flags = (uint32_t)op->number[1] & ~(uint32_t)(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    hook->raises_admin = op->number[2] != 0;
    return error;
}

/* lists: path, the state before and after the pid, the arguments; the environment. numbers: seconds (0: any), umask, index, 1 if HOME is to be
 * there, 1 if it runs under the program's filter */
OPERATION(run_hook)
{
    static const char *const doing[] = {[HOOK_CLONE] = "clone3", [HOOK_DIRECTORY] = "chdir", [HOOK_FILTER] = "seccomp", [HOOK_EXECUTION] = ""};
    char **command = plan_vector(&init->plan, op, 0), **environment = plan_vector(&init->plan, op, 1);
    int ends[2];

    if (!command[0] || !command[1] || !command[2])
        return explain(init, -EBADMSG, "no hook is named");
    if (op->number[3])
        add_home(init, environment);
    init->hook.number = (int)op->number[2] + 1;
    AUTO_FD state = -1;
    int error = write_state(command[1], command[2], &state);
    if (error)
        return explain(init, error, "write the state");
    if (pipe2(ends, O_CLOEXEC) < 0)
        return explain(init, -errno, "pipe2");
    AUTO_FD output = ends[0], input = ends[1];
    if (fcntl(output, F_SETFL, O_NONBLOCK) < 0)
        return explain(init, -errno, "fcntl");
    struct hook hook = {.path = command[0], .arguments = command + 3, .environment = environment,
                        .umask = (int32_t)op->number[1], .input = state, .output = input, .pidfd = -1};
    struct sock_fprog program;
    if (op->number[4] && (error = filter_hook(init, &hook, &program)))
        return explain(init, error, "find the filter");
    error = start_hook(&hook);
    AUTO_FD pidfd = hook.pidfd;
    close(take_fd(&input));
    if (error) {
        siginfo_t info;
        while (pidfd >= 0 && syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | __WALL, NULL) < 0 && errno == EINTR)
            ;
        return explain(init, error, doing[hook.failed]);
    }
    error = watch_hook(init, &hook, output, op->number[0]);
    if (!error)
        init->hook.number = 0;
    return error;
}
