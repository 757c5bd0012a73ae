/* What the clone's child does before it is the static init. It runs in the caller's address space and on a borrowed stack, while the
 * caller's thread, whose thread-local storage it has, goes on. So it may use nothing of the C library, not even errno. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sys/prctl.h>

#include "raw.h"

/* Its frames lie in one of the caller's and are never left, so that what AddressSanitizer notes of them would stay there. */
#define OF_THE_CHILD __attribute__((no_sanitize("address", "undefined")))

OF_THE_CHILD static long address(const void *pointer)
{
    return (long)(uintptr_t)pointer;
}

/* Execution with an id that is not mapped yet would take all capabilities of the new user namespace away, unless they
 * are ambient. */
OF_THE_CHILD static int keep_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    long error = raw_call(SYS_capget, address(&header), address(data), 0, 0, 0);

    if (error)
        return (int)error;
    data[0].inheritable = data[0].permitted;
    data[1].inheritable = data[1].permitted;
    error = raw_call(SYS_capset, address(&header), address(data), 0, 0, 0);
    if (error)
        return (int)error;
    for (int capability = 0; capability < 64; capability++) {
        error = raw_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
        if (error && error != -EINVAL && error != -EPERM)
            return (int)error;
    }
    return 0;
}

/* Above all targets, so that none of them is overwritten before it was copied. */
OF_THE_CHILD static int move_away(int *fd, int count)
{
    if (*fd < 0 || *fd >= count)
        return 0;
    long moved = raw_call(SYS_fcntl, *fd, F_DUPFD_CLOEXEC, count, 0, 0);
    if (moved < 0)
        return (int)moved;
    *fd = (int)moved;
    return 0;
}

OF_THE_CHILD static int arrange_descriptors(struct child *child)
{
    int error = move_away(&child->init_fd, child->count);

    for (int i = 0; i < child->count && !error; i++)
        error = move_away(&child->sources[i], child->count);
    for (int i = 0; i < child->count && !error; i++) {
        long result = child->sources[i] >= 0 ? raw_call(SYS_dup3, child->sources[i], i, 0, 0, 0)
                                             : raw_call(SYS_fcntl, i, F_SETFD, 0, 0, 0);
        error = result < 0 ? (int)result : 0;
    }
    return error ? error : (int)raw_call(SYS_close_range, child->count, ~0U, CLOSE_RANGE_CLOEXEC, 0, 0);
}

OF_THE_CHILD void enter_init(void *argument)
{
    struct child *child = argument;
    char *arguments[] = {(char *)(uintptr_t)"pyruntime-init", child->argument, NULL};
    char *environment[] = {NULL};

    child->error = arrange_descriptors(child);
    if (!child->error && child->keep_capabilities)
        child->error = keep_capabilities();
    if (!child->error)
        child->error = (int)raw_call(SYS_execveat, child->init_fd, address(""), address(arguments), address(environment),
                                     AT_EMPTY_PATH);
    for (;;)
        raw_call(SYS_exit_group, 127, 0, 0, 0, 0);
}
