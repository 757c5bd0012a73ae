/* What is derived of a container and stored nowhere: whether it runs, was started, is paused. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "syscalls.h"

#define INIT_EXECUTABLE "/memfd:pyruntime-init"

int is_alive(int pid, int64_t start_time)
{
    char path[32], text[1024];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int64_t length = read_file(path, text, sizeof text - 1);
    if (length < 0)
        return length == -ENOENT || length == -ESRCH ? 0 : (int)length;
    text[length] = 0;
    /* the command in parentheses may hold anything; field 3 is behind it */
    const char *field = strrchr(text, ')');
    if (!field || field[1] != ' ')
        return -EBADMSG;
    char state = field[2];
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    if (!field)
        return -EBADMSG;
    return strtoll(field, NULL, 10) == start_time && state != 'Z' && state != 'X';
}

int awaits_start(const char *directory, const char *name, int pid)
{
    char path[4096 + 256], executable[64];

    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    if (access(path, F_OK) < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t length = readlink(path, executable, sizeof executable);
    return length >= (ssize_t)sizeof INIT_EXECUTABLE - 1 && !memcmp(executable, INIT_EXECUTABLE, sizeof INIT_EXECUTABLE - 1);
}

int is_frozen(const char *path)
{
    char text[32];
    int64_t length = read_file(path, text, sizeof text - 1);

    if (length < 0)
        /* what opening and what reading a file of a cgroup say when the cgroup is removed */
        return length == -ENOENT || length == -ENODEV ? 0 : (int)length;
    text[length] = 0;
    text[strcspn(text, "\n")] = 0;
    return !strcmp(text, "FROZEN") || !strcmp(text, "FREEZING") || !strcmp(text, "1");
}

int derive_status(const char *directory, const char *name, int pid, int64_t start_time, const char *freezer)
{
    int found = is_alive(pid, start_time);

    if (found <= 0)
        return found ? found : STATUS_STOPPED;
    if ((found = awaits_start(directory, name, pid)))
        return found < 0 ? found : STATUS_CREATED;
    found = freezer ? is_frozen(freezer) : 0;
    return found < 0 ? found : found ? STATUS_PAUSED : STATUS_RUNNING;
}
