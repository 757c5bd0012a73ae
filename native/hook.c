/* Executing a hook, by the caller's side and by the init alike. Its process shares the memory of the one that makes it until it has
 * executed, and what failed is found in the struct then. As in child.c it uses nothing of the C library meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "clone.h"
#include "raw.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

#define OF_THE_CHILD __attribute__((no_sanitize("address", "undefined")))
#define SIGNALS 64
#define SET_MASK 2              /* SIG_SETMASK; <signal.h> differs between the C libraries */
#define HOOK_STACK 8192

OF_THE_CHILD static long address(const void *pointer)
{
    return (long)(uintptr_t)pointer;
}

/* What the caller ignores (Python ignores SIGPIPE) or blocks is none of the hook's business. */
OF_THE_CHILD static void reset_signals(void)
{
    uint64_t none = 0, defaults[4];

    for (int i = 0; i < 4; i++)
        defaults[i] = 0;
    for (int number = 1; number <= SIGNALS; number++)
        raw_call(SYS_rt_sigaction, number, address(defaults), 0, sizeof none, 0);
    raw_call(SYS_rt_sigprocmask, SET_MASK, address(&none), 0, sizeof none, 0);
}

/* Above the standard streams, which are overwritten. */
OF_THE_CHILD static long move_up(int fd)
{
    return fd > 2 ? fd : raw_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0, 0);
}

OF_THE_CHILD static long arrange_streams(const struct hook *hook)
{
    long input = move_up(hook->input), output = move_up(hook->output), error = 0;

    if (input < 0 || output < 0)
        return input < 0 ? input : output;
    for (int fd = 0; fd < 3; fd++) {
        error = raw_call(SYS_dup3, fd == 0 ? input : output, fd, 0, 0, 0);
        if (error < 0)
            return error;
    }
    return raw_call(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC, 0, 0);
}

/* For what installing takes: executing computes the sets anew. */
OF_THE_CHILD static long raise_admin(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[2];
    long error = raw_call(SYS_capget, address(&header), address(sets), 0, 0, 0);

    if (error)
        return error;
    sets[0].effective |= 1U << CAP_SYS_ADMIN;
    return raw_call(SYS_capset, address(&header), address(sets), 0, 0, 0);
}

OF_THE_CHILD static long install_filter(const struct hook *hook)
{
    long error = hook->raises_admin ? raise_admin() : 0;

    return error ? error : raw_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, hook->filter_flags, address(hook->filter), 0, 0);
}

OF_THE_CHILD static void enter_hook(void *argument)
{
    struct hook *hook = argument;

    /* a group of its own: what it has started can be killed with it */
    long error = raw_call(SYS_setpgid, 0, 0, 0, 0, 0);
    reset_signals();
    if (hook->umask >= 0)
        raw_call(SYS_umask, hook->umask, 0, 0, 0, 0);
    if (!error && hook->directory) {
        hook->failed = HOOK_DIRECTORY;
        error = raw_call(SYS_chdir, address(hook->directory), 0, 0, 0, 0);
    }
    if (!error) {
        hook->failed = HOOK_EXECUTION;
        error = arrange_streams(hook);
    }
    if (!error && hook->filter) {
        hook->failed = HOOK_FILTER;
        error = install_filter(hook);
    }
    /* nothing but this is done under the filter */
    hook->failed = error ? hook->failed : HOOK_EXECUTION;
    if (!error)
        error = raw_call(SYS_execve, address(hook->path), address(hook->arguments), address(hook->environment), 0, 0);
    hook->error = (int)error;
    for (;;)
        raw_call(SYS_exit_group, 127, 0, 0, 0, 0);
}

int start_hook(struct hook *hook)
{
    char stack[HOOK_STACK] __attribute__((aligned(16)));
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = sizeof stack,
    };
    uint64_t all = ~0ULL, saved;

    hook->error = 0;
    hook->failed = HOOK_EXECUTION;
    /* no handler of the caller's may run in the child */
    raw_call(SYS_rt_sigprocmask, SET_MASK, address(&all), address(&saved), sizeof all, 0);
    long pid = clone_and_enter(&args, enter_hook, hook);
    raw_call(SYS_rt_sigprocmask, SET_MASK, address(&saved), 0, sizeof saved, 0);
    if (pid < 0) {
        hook->failed = HOOK_CLONE;
        hook->pidfd = -1;
        return (int)pid;
    }
    hook->pid = (int32_t)pid;
    hook->pidfd = pidfd;
    return hook->error;
}
