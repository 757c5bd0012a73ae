/* What the clone's child does before it is the static init. It runs in the caller's address space and on a borrowed stack, so it may
 * use nothing of the C library that allocates, locks or buffers. */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sys/prctl.h>

#include "child.h"
#include "host.h"

/* Execution with an id that is not mapped yet would take all capabilities of the new user namespace away, unless they
 * are ambient. */
static int keep_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].inheritable = data[0].permitted;
    data[1].inheritable = data[1].permitted;
    if (syscall(SYS_capset, &header, data) < 0)
        return -errno;
    for (int capability = 0; capability < 64; capability++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0 && errno != EINVAL && errno != EPERM)
            return -errno;
    return 0;
}

static int arrange_descriptors(struct child *child)
{
    for (int i = 0; i < child->count; i++) {
        if (child->sources[i] < 0 || child->sources[i] >= child->count)
            continue;
        child->sources[i] = fcntl(child->sources[i], F_DUPFD_CLOEXEC, child->count);
        if (child->sources[i] < 0)
            return -errno;
    }
    if (child->init_fd < child->count && (child->init_fd = fcntl(child->init_fd, F_DUPFD_CLOEXEC, child->count)) < 0)
        return -errno;
    for (int i = 0; i < child->count; i++)
        if (child->sources[i] >= 0 ? dup3(child->sources[i], i, 0) < 0 : fcntl(i, F_SETFD, 0) < 0)
            return -errno;
    return close_from((unsigned int)child->count, CLOSE_RANGE_CLOEXEC);
}

void enter_init(void *argument)
{
    struct child *child = argument;
    char *arguments[] = {(char *)(uintptr_t)"pyruntime-init", child->wire_text, NULL};
    char *environment[] = {NULL};

    child->error = arrange_descriptors(child);
    if (!child->error && child->keep_capabilities)
        child->error = keep_capabilities();
    if (!child->error) {
        syscall(SYS_execveat, child->init_fd, "", arguments, environment, AT_EMPTY_PATH);
        child->error = -errno;
    }
    _exit(127);
}
