/* A process that the front end makes of a kept plan, and follows. */
#ifndef PYRUNTIME_FRONT_PROCESS_H
#define PYRUNTIME_FRONT_PROCESS_H

#include "kept.h"

/* What is not known before a plan is executed. */
struct places {
    char pid[16];
    char start_time[24];
    char now[40];
};

/* A text of a kept plan with what goes in its places: its length, or HAND_OVER. */
int fill(const struct kept *kept, const char *text, uint32_t size, const struct places *places, char *ret_text, uint64_t limit);

/* As msgspec has it, which leaves out no part of a second but a whole one. */
void format_now(char *ret_text, size_t size);

/* Write what is warned of to the log, or to standard error where there is none. */
void tell_warnings(const struct line *line, const struct kept *kept);

/* A file for a pid beside its place, where it is put at once: somebody may be waiting for it. */
struct pid_file {
    const char *path;       /* NULL: none is wanted */
    char beside[PATH_MAX];
    int fd;
};

/* 0, or HAND_OVER before anything is made. */
int open_pid_file(const char *path, struct pid_file *ret_file);

/* 0 or -errno */
int write_pid_file(struct pid_file *file, int pid);

/* Remove what was not put in its place. */
void discard_pid_file(struct pid_file *file);
#define AUTO_PID_FILE __attribute__((cleanup(discard_pid_file))) struct pid_file

/* Put the values in their places, run the host operations and start the init: 0 or HAND_OVER, and then nothing of it is left. */
int spawn_kept(struct kept *kept, const int *descriptors, int count, struct spawn_result *ret_result);

/* Listen until the init has closed the wire, which is closed: 0 once it has said that `until` and no failure; else HAND_OVER, and the process
 * was killed and reaped. The pid and its pidfd, which is the caller's, may be those of a successor. */
int follow_init(const struct kept *kept, struct spawn_result *spawned, uint32_t until);

/* Wait for a child's end, and pass signals on to it meanwhile (of catch_signals; -1: none): its exit code, 128 and the number of the signal
 * that ended it. */
int wait_for(int pidfd, int signals);

#endif
