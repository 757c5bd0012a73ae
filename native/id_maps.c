/* The id maps of a child that a caller without privileges has made: other ids than its own are mapped by a program that has some. */
#define _GNU_SOURCE
#include "host.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAPPING_TIMEOUT_MS 10000    /* who may map which ids may stand in a directory service */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* 1: it ended, 0: it has not. */
static int await_program(int pidfd)
{
    int64_t deadline = now_ms() + MAPPING_TIMEOUT_MS, left;
    int got = 0;

    while ((left = deadline - now_ms()) > 0 && (got = poll_pidfd(pidfd, (int)left)) == -EINTR)
        ;
    return got;
}

/* The first line that it wrote. */
static int explain_output(struct host *host, int output)
{
    char text[MESSAGE_DETAIL];
    ssize_t length = pread(output, text, sizeof text - 1, 0);

    text[length < 0 ? 0 : length] = 0;
    text[strcspn(text, "\n")] = 0;
    snprintf(host->detail, MESSAGE_DETAIL, "%s", *text ? text : "it failed without saying why");
    return -EPERM;
}

/* text: the program; list: its arguments, where an empty place is for the child's pid */
int map_child_ids(struct host *host, const struct operation *op)
{
    char pid[16], *environment[] = {NULL};
    int error = await_own_memory(host);

    if (error)
        return error;
    AUTO_FD output = memfd_create("pyruntime-output", MFD_CLOEXEC);
    AUTO_FD input = open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0, 0);
    if (output < 0 || input < 0)
        return explain(host, output < 0 ? -errno : input, "open its streams", NULL);
    snprintf(pid, sizeof pid, "%d", host->pid);
    char **arguments = plan_vector(host->plan, op, 1);
    for (char **argument = arguments; *argument; argument++)
        if (!**argument)
            *argument = pid;
    struct hook program = {.path = plan_text(host->plan, op, 0), .arguments = arguments, .environment = environment, .umask = -1,
                           .input = input, .output = output};
    error = start_hook(&program);
    AUTO_FD pidfd = program.pidfd;
    int ended = pidfd < 0 || error ? 1 : await_program(pidfd);
    if (ended <= 0)
        signal_pidfd(pidfd, SIGKILL);
    struct exit_report report = {0};
    while (pidfd >= 0 && reap_pidfd(pidfd, &report) == -EINTR)
        ;
    if (error)
        return explain(host, error, "execute", NULL);
    if (ended <= 0)
        return explain(host, ended ? ended : -ETIMEDOUT, "wait for it", NULL);
    return report.code == CLD_EXITED && report.status == 0 ? 0 : explain_output(host, output);
}
