/* state, start, kill and delete, where they are plain. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "front.h"

#define END_TIMEOUT_MS 1000
#define CGROUP_RETRIES 100

static const char *const status_names[] = {
    [STATUS_CREATED] = "created", [STATUS_RUNNING] = "running", [STATUS_PAUSED] = "paused", [STATUS_STOPPED] = "stopped"};

int command_state(struct front *front)
{
    const struct record *record = &front->record;
    char text[RECORD_LIMIT + 64];

    if (!has_only(&front->line, "") || *front->line.rest || load_record(front))
        return HAND_OVER;
    int status = status_of(front);
    if (status < 0)
        return HAND_OVER;
    int length = snprintf(text, sizeof text, "%s\n  \"pid\": %d,\n  \"status\": \"%s\"%s\n", record->before_pid,
                          status == STATUS_STOPPED ? 0 : record->pid, status_names[status], record->after_status);
    for (int written = 0; written < length;) {
        ssize_t got = write(STDOUT_FILENO, text + written, (size_t)(length - written));
        if (got < 0)
            return written ? 1 : HAND_OVER;
        written += (int)got;
    }
    return 0;
}

int command_kill(struct front *front)
{
    const char *text = front->line.rest[0];

    if (!has_only(&front->line, "") || (text && front->line.rest[1]) || load_record(front))
        return HAND_OVER;
    int number = signal_of(text ? text : "TERM");
    /* in a pid namespace that is shared, SIGKILL is for all processes of the container */
    if (number < 0 || (number == SIGKILL && front->record.shares_pid_namespace))
        return HAND_OVER;
    AUTO_FD init = open_container_init(&front->record);
    return init < 0 || signal_pidfd(init, number) ? HAND_OVER : 0;
}

/* What was heard of a start that failed, for Python, which starts anew and finds it: HAND_OVER. */
static int note_failure(struct front *front, const struct conversation *heard)
{
    char path[PATH_MAX];
    AUTO_FD init = open_container_init(&front->record);

    /* it closes its connection before its start socket */
    if (init >= 0)
        poll_pidfd(init, END_TIMEOUT_MS);
    if (!name_in_directory(front, "failure", path, sizeof path))
        store_file(path, (const char *)heard, sizeof *heard, NULL);
    return HAND_OVER;
}

int start_container(struct front *front, struct conversation *ret_heard)
{
    const uint32_t unwanted = 1U << MESSAGE_FAILURE | 1U << MESSAGE_HOOKS;
    struct conversation heard = {.pidfd = -1, .console = -1, .listener = -1};
    AUTO_FD connection = -1;
    int got = start_init(front->directory, START_SOCKET, SETUP_TIMEOUT_MS, &connection, &heard);

    if (got < 0)
        return got;
    close_fd(&heard.console);
    close_fd(&heard.listener);
    if (got == 1 && heard.said & 1U << MESSAGE_EXECUTING && !(heard.said & unwanted))
        return 0;
    if (got == 0) {
        heard.said |= 1U << MESSAGE_FAILURE;
        heard.kind = OP_EXECUTE_PROGRAM;
        heard.error = ETIMEDOUT;
    }
    *ret_heard = heard;
    return 1;
}

bool is_notified(void)
{
    const char *socket = getenv("NOTIFY_SOCKET");

    return socket && *socket;
}

int command_start(struct front *front)
{
    struct conversation heard;

    if (is_notified() || !has_only(&front->line, "") || *front->line.rest)
        return HAND_OVER;
    AUTO_FD lock = lock_directory(front->directory);
    if (lock < 0 || load_record(front) || !front->record.may_start)
        return HAND_OVER;
    int failed = start_container(front, &heard);
    return failed == 1 ? note_failure(front, &heard) : failed ? HAND_OVER : 0;
}

/* Whether there is a process on record that is not gone: exec processes' records are names, `process-PID.START` and how it ended behind it. */
static bool has_processes(const struct front *front)
{
    DIR *entries = opendir(front->directory);
    bool found = !entries;

    for (struct dirent *entry; !found && (entry = readdir(entries));) {
        int pid, length = 0;
        int64_t start_time;
        if (!strncmp(entry->d_name, "process-", 8))
            found = sscanf(entry->d_name, "process-%d.%ld%n", &pid, &start_time, &length) != 2 || read_start_time(pid) == start_time;
    }
    if (entries)
        closedir(entries);
    return found;
}

int end_init(const struct record *record)
{
    struct exit_report report;
    AUTO_FD init = open_container_init(record);

    if (init < 0)
        return init == -ESRCH || init == -ENOENT ? 0 : HAND_OVER;
    signal_pidfd(init, SIGKILL);
    if (poll_pidfd(init, END_TIMEOUT_MS) != 1)
        return HAND_OVER;
    reap_pidfd(init, &report);  /* where it is ours */
    return 0;
}

int remove_cgroups(const struct record *record)
{
    const char *path = record->cgroups;

    for (int i = 0; i < record->cgroup_count; i++, path += strlen(path) + 1) {
        int error = -1;
        /* the kernel tells of no event when the last reference to a v1 cgroup goes */
        for (int turn = 0; turn < CGROUP_RETRIES && error; turn++) {
            error = rmdir(path) < 0 && errno != ENOENT ? errno : 0;
            if (error && error != EBUSY)
                return HAND_OVER;
            if (error)
                nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        }
        if (error)
            return HAND_OVER;
    }
    return 0;
}

int command_delete(struct front *front)
{
    if (!has_only(&front->line, "force") || *front->line.rest)
        return HAND_OVER;
    AUTO_FD lock = lock_directory(front->directory);
    if (lock < 0 || load_record(front) || !front->record.may_delete)
        return HAND_OVER;
    int status = status_of(front);
    /* one that was never started is deleted, as engines expect; one that is paused has to be thawed, to end */
    bool is_wanted = status == STATUS_STOPPED || status == STATUS_CREATED || (status == STATUS_RUNNING && option_of(&front->line, "force"));
    if (!is_wanted || has_processes(front) || end_init(&front->record) || remove_cgroups(&front->record))
        return HAND_OVER;
    return remove_directory(front->directory) ? HAND_OVER : 0;
}
