/* exec of a process whose plan is kept. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "front_process.h"

/* Of those that somebody else has reaped, who has their status: without it whoever runs many detached would have the records of all of them. */
static void forget_reaped(const struct front *front)
{
    DIR *entries = opendir(front->directory);

    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        int pid, length = 0;
        int64_t start_time;
        if (sscanf(entry->d_name, "process-%d.%ld%n", &pid, &start_time, &length) == 2 && !entry->d_name[length]
            && read_start_time(pid) != start_time)
            unlinkat(dirfd(entries), entry->d_name, 0);
    }
    if (entries)
        closedir(entries);
}

static int execute(struct front *front, struct kept *kept, struct pid_file *file, int signals)
{
    char record[PATH_MAX];
    struct spawn_result spawned;
    AUTO_FD init = open_container_init(&front->record);

    if (init < 0 || spawn_kept(kept, &init, 1, &spawned) || follow_init(kept, &spawned, MESSAGE_EXECUTING))
        return HAND_OVER;
    AUTO_FD pidfd = spawned.pidfd;
    int length = snprintf(record, sizeof record, "%s/process-%d.%ld", front->directory, spawned.pid, read_start_time(spawned.pid));
    int unnoted = length < (int)sizeof record ? (int)checked(mknod(record, S_IFREG | 0600, 0)) : -ENAMETOOLONG;
    int unwritten = unnoted ? 0 : write_pid_file(file, spawned.pid);
    if (unnoted || unwritten) {
        signal_pidfd(pidfd, SIGKILL);
        wait_for(pidfd, -1);
        if (!unnoted)
            unlink(record);
        discard_pid_file(file);
        return unnoted ? tell_failure(front, "note a process of container", front->id, unnoted)
                       : tell_failure(front, "write pid file", file->path, unwritten);
    }
    tell_warnings(&front->line, kept);
    if (signals < 0) {
        forget_reaped(front);
        return 0;
    }
    int code = wait_for(pidfd, signals);
    unlink(record);
    return code;
}

int command_exec(struct front *front)
{
    const struct line *line = &front->line;
    bool is_detached = option_of(line, "detach");
    AUTO_KEPT kept = {0};
    AUTO_PID_FILE file;
    uint64_t before;

    file.fd = -1;
    if (!has_only(line, "process detach pid_file env user additional_gids cwd cap no_new_privs apparmor process_label")
        || !option_of(line, "process") == !*line->rest || load_record(front) || !front->record.may_execute
        || find_kept(front->arguments, &kept) || status_of(front) != STATUS_RUNNING || open_pid_file(option_of(line, "pid_file"), &file))
        return HAND_OVER;
    int signals = is_detached ? -1 : catch_signals(&before);
    if (!is_detached && signals < 0)
        return HAND_OVER;
    int code = execute(front, &kept, &file, signals);
    /* at the end they are left blocked: those that came too late for the process are not to end the command either */
    if (!is_detached && code == HAND_OVER)
        release_signals(signals, before);
    return code;
}
