/* Processes that run: signals, their end, and what belongs to them. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "plan.h"
#include "syscalls.h"

int64_t read_start_time(int pid)
{
    char path[32], text[1024];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int64_t length = read_file(path, text, sizeof text - 1);
    if (length < 0)
        return length;
    text[length] = 0;
    /* the command in parentheses may hold anything; field 3 is behind it */
    const char *field = strrchr(text, ')');
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    return field ? strtoll(field, NULL, 10) : -EBADMSG;
}

int open_pidfd(int pid)
{
    return (int)checked(syscall(SYS_pidfd_open, pid, 0));
}

int signal_pidfd(int pidfd, int signal)
{
    return (int)checked(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int poll_pidfd(int pidfd, int timeout_ms)
{
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};

    return (int)checked(poll(&entry, 1, timeout_ms));
}

int poll_reaping(int pidfd, int timeout_ms)
{
    struct pollfd entry = {.fd = pidfd};

    return (int)checked(poll(&entry, 1, timeout_ms));
}

/* include/uapi/linux/pidfd.h of Linux 6.15, which is newer than the headers that we are built with */
struct exit_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;      /* as wait(2) gives it */
};
#define EXIT_INFO_REQUEST _IOWR(0xFF, 11, struct exit_info)
#define EXIT_INFO_EXIT (1ULL << 3)

int inspect_pidfd(int pidfd, struct exit_report *ret_report)
{
    struct exit_info info = {.mask = EXIT_INFO_EXIT};

    if (ioctl(pidfd, EXIT_INFO_REQUEST, &info) < 0)
        return errno == ENOTTY || errno == EINVAL ? -ENOSYS : errno == ESRCH ? -ENODATA : -errno;
    if (!(info.mask & EXIT_INFO_EXIT))
        return -ENODATA;
    bool signaled = WIFSIGNALED(info.exit_code);
    *ret_report = (struct exit_report){
        .code = signaled ? (WCOREDUMP(info.exit_code) ? CLD_DUMPED : CLD_KILLED) : CLD_EXITED,
        .status = signaled ? WTERMSIG(info.exit_code) : WEXITSTATUS(info.exit_code),
    };
    return 0;
}

struct detaching {
    int mount_namespace;
    const char *path;
    int error;
};

/* In a thread of its own, which has no root and working directory in common with the caller's. */
static void *detach_in_namespace(void *argument)
{
    struct detaching *detaching = argument;

    if (unshare(CLONE_FS) < 0 || setns(detaching->mount_namespace, CLONE_NEWNS) < 0
        || syscall(SYS_umount2, detaching->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
        detaching->error = -errno;
    return NULL;
}

int detach_mount(int mount_namespace, const char *path)
{
    struct detaching detaching = {.mount_namespace = mount_namespace, .path = path};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, detach_in_namespace, &detaching);

    if (error)
        return -error;
    pthread_join(thread, NULL);
    return detaching.error;
}

int set_terminal_size(int terminal, unsigned int width, unsigned int height)
{
    struct winsize size = {.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};

    return (int)checked(ioctl(terminal, TIOCSWINSZ, &size));
}
