/* create and run of a bundle whose plan is kept. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "front_process.h"

extern char **environ;

static int write_record(struct front *front, const struct kept *kept, int pid)
{
    char path[PATH_MAX];
    struct places places;

    snprintf(places.pid, sizeof places.pid, "%d", pid);
    snprintf(places.start_time, sizeof places.start_time, "%ld", read_start_time(pid));
    format_now(places.now, sizeof places.now);
    int length = fill(kept, kept->record, kept->head->record_size, &places, front->record.data, sizeof front->record.data);
    if (length < 0 || name_in_directory(front, "state.json.new", path, sizeof path))
        return HAND_OVER;
    return store_file(path, front->record.data, (uint64_t)length, NULL) ? HAND_OVER : 0;
}

/* Where the container's cgroup is going to be, so that whatever happens can be cleaned up. */
static int note_cgroup(const struct front *front, const struct kept *kept)
{
    char target[PATH_MAX], path[PATH_MAX];
    struct places none = {0};

    if (fill(kept, kept->cgroup, kept->head->cgroup_size, &none, target, sizeof target) < 0 || name_in_directory(front, "cgroup", path, sizeof path))
        return HAND_OVER;
    return symlink(target, path) < 0 ? HAND_OVER : 0;
}

/* Its init, ready, as a pidfd; or HAND_OVER: then no process of it is left. */
static int make_in_directory(struct front *front, struct kept *kept, int *ret_pid)
{
    char from[PATH_MAX], to[PATH_MAX];
    struct spawn_result spawned;

    if (note_cgroup(front, kept) || spawn_kept(kept, NULL, 0, &spawned))
        return HAND_OVER;
    /* while the init is at work */
    int not_noted = write_record(front, kept, spawned.pid);
    if (follow_init(kept, &spawned, MESSAGE_READY))
        return HAND_OVER;
    AUTO_FD pidfd = spawned.pidfd;
    if (not_noted || name_in_directory(front, "state.json.new", from, sizeof from) || name_in_directory(front, "state.json", to, sizeof to)
        || rename(from, to) < 0) {
        signal_pidfd(pidfd, SIGKILL);
        wait_for(pidfd, -1);
        return HAND_OVER;
    }
    *ret_pid = spawned.pid;
    return take_fd(&pidfd);
}

/* The same with the container's directory. Python, which does it again, finds cgroups that were made: nothing is in them. */
static int make_container(struct front *front, struct kept *kept, int *ret_pid)
{
    if (mkdir(front->directory, 0700) < 0)
        return HAND_OVER;
    int pidfd = make_in_directory(front, kept, ret_pid);
    if (pidfd < 0)
        remove_directory(front->directory);
    return pidfd;
}

/* What cannot be handed to the caller is not left: HAND_OVER. */
static int undo(struct front *front)
{
    if (load_record(front) == 0 && end_init(&front->record) == 0) {
        remove_cgroups(&front->record);
        remove_directory(front->directory);
    }
    return HAND_OVER;
}

static bool has_rootfs(const struct kept *kept)
{
    char path[PATH_MAX];
    struct places none = {0};
    struct stat st;

    return fill(kept, kept->rootfs, kept->head->rootfs_size, &none, path, sizeof path) >= 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Sockets that systemd or conmon has the command inherit are told to the program (sd_listen_fds(3)), which is nothing for kept plans. Nor is
 * one that the program is given (sd_notify(3)). */
static bool passes_sockets(void)
{
    const char *pid = getenv("LISTEN_PID");

    return is_notified() || (pid && atoi(pid) == getpid());
}

static int open_kept(struct front *front, struct kept *ret_kept, struct pid_file *ret_file)
{
    ret_file->fd = -1;
    if (*front->line.rest || passes_sockets() || find_kept(front->arguments, ret_kept) || !has_rootfs(ret_kept))
        return HAND_OVER;
    return open_pid_file(option_of(&front->line, "pid_file"), ret_file);
}

int command_create(struct front *front)
{
    AUTO_KEPT kept = {0};
    AUTO_PID_FILE file;
    int pid;

    file.fd = -1;
    if (!has_only(&front->line, "bundle pid_file no_pivot no_new_keyring") || open_kept(front, &kept, &file))
        return HAND_OVER;
    AUTO_FD init = make_container(front, &kept, &pid);
    if (init < 0)
        return HAND_OVER;
    if (write_pid_file(&file, pid))
        return undo(front);
    tell_warnings(&front->line, &kept);
    return 0;
}

/* What is left of a container that has ended; where it is not plain Python removes it, which then is no other command's end. */
static void clean_up(struct front *front)
{
    char python[PATH_MAX];
    char *arguments[] = {(char *)(uintptr_t)"pyruntime", (char *)(uintptr_t)"--root", (char *)(uintptr_t)front->line.root,
                         (char *)(uintptr_t)"delete", (char *)(uintptr_t)"--force", (char *)(uintptr_t)front->id, NULL};
    pid_t pid;

    {
        AUTO_FD lock = lock_directory(front->directory);
        if (lock >= 0 && !remove_cgroups(&front->record) && !remove_directory(front->directory))
            return;
    }
    if (!name_python(python, sizeof python) && !posix_spawn(&pid, python, NULL, NULL, arguments, environ))
        waitpid(pid, NULL, 0);
}

static int run_container(struct front *front, struct kept *kept, struct pid_file *file, int signals)
{
    struct conversation heard;
    int pid, unwritten = 0;
    AUTO_FD init = make_container(front, kept, &pid);

    if (init < 0)
        return HAND_OVER;
    {
        AUTO_FD lock = lock_directory(front->directory);
        if (lock < 0 || load_record(front) || start_container(front, &heard))
            return undo(front);
        /* last: one that cannot be started has none */
        unwritten = write_pid_file(file, pid);
        if (unwritten)
            undo(front);
    }
    if (unwritten) {
        discard_pid_file(file);
        return tell_failure(front, "write pid file", file->path, unwritten);
    }
    tell_warnings(&front->line, kept);
    if (signals < 0)
        return 0;
    int code = wait_for(init, signals);
    clean_up(front);
    return code;
}

int command_run(struct front *front)
{
    bool is_detached = option_of(&front->line, "detach");
    AUTO_KEPT kept = {0};
    AUTO_PID_FILE file;
    uint64_t before;

    file.fd = -1;
    if (!has_only(&front->line, "bundle pid_file no_pivot no_new_keyring detach no_subreaper") || open_kept(front, &kept, &file))
        return HAND_OVER;
    int signals = is_detached ? -1 : catch_signals(&before);
    if (!is_detached && signals < 0)
        return HAND_OVER;
    int code = run_container(front, &kept, &file, signals);
    /* at the end they are left blocked: those that came too late for the process are not to end the command either */
    if (!is_detached && code == HAND_OVER)
        release_signals(signals, before);
    return code;
}
