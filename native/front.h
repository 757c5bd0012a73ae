/* The front end of the command line: what it needs of a command, and of a container's record. */
#ifndef PYRUNTIME_FRONT_H
#define PYRUNTIME_FRONT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "front_line.h"
#include "plan.h"
#include "syscalls.h"

#define START_SOCKET "start"
#define RECORD_LIMIT 262144
/* how long a process may take to be set up, or a program to be executed, as in Python */
#define SETUP_TIMEOUT_MS 60000
/* Whatever is not plain: Python does the whole of it, as if there were no front end. */
#define HAND_OVER (-1)

/* Of a record's `front` (pyruntime/state/front.py); texts point into the data. */
struct record {
    bool may_start;
    bool may_delete;
    bool may_execute;
    bool shares_pid_namespace;
    int pid;
    int64_t start_time;
    const char *bundle;
    const char *freezer;    /* NULL: none */
    const char *cgroups;    /* one behind the other, each with its NUL */
    int cgroup_count;
    const char *before_pid;
    const char *after_status;
    char data[RECORD_LIMIT];
};

struct front {
    char **arguments;
    struct line line;
    const char *id;
    char directory[PATH_MAX];
    struct record record;
};

/* Each is the exit code or HAND_OVER. */
int command_state(struct front *front);
int command_start(struct front *front);
int command_kill(struct front *front);
int command_delete(struct front *front);
int command_exec(struct front *front);
int command_create(struct front *front);
int command_run(struct front *front);

/* Take apart what is in record->data, so many bytes: 0 or HAND_OVER. */
int parse_record(struct record *record, uint64_t size, const char *id);

/* The container's record, read anew: 0 or HAND_OVER. */
int load_record(struct front *front);

/* enum container_status or HAND_OVER. */
int status_of(struct front *front);

/* A pidfd of the container's init, which runs, or -errno. */
int open_container_init(const struct record *record);

/* Whether somebody waits for what a container's program says of itself (sd_notify(3)). */
bool is_notified(void);

/* Let init go on: 0, -errno where nobody waits to be started, or 1 with what was heard of one that has failed. */
int start_container(struct front *front, struct conversation *ret_heard);

/* Kill init and wait for it: 0, also where it has ended, or HAND_OVER where it does not. */
int end_init(const struct record *record);

/* 0, or HAND_OVER where something is in one. */
int remove_cgroups(const struct record *record);

/* Of front.c: the program in Python. */
int name_python(char *ret_path, uint64_t size);

/* Have it say why the command has failed: what was tried, on what, and the error (-errno). Returns only where it cannot be executed. */
int tell_failure(const struct front *front, const char *doing, const char *object, int error);

/* The name of a file in the container's directory: 0 or HAND_OVER. */
int name_in_directory(const struct front *front, const char *name, char *ret_path, uint64_t size);

#endif
