/* The command line as far as the front end takes it: exact spellings of options from the table that build.py makes of the parsers in
 * pyruntime/cli/arguments.py. Everything else is Python's. */
#ifndef PYRUNTIME_FRONT_LINE_H
#define PYRUNTIME_FRONT_LINE_H

#include <stdbool.h>

#define LINE_OPTIONS_MAX 64

/* One spelling of an option of a command ("": of all). */
struct option_row {
    const char *command;
    const char *spelling;
    const char *name;
    int takes_value;
};

struct signal_row {
    const char *name;
    int number;
};

struct given_option {
    const char *name;
    const char *value;      /* "" of one that takes none */
};

struct line {
    const char *root;
    const char *command;
    struct given_option options[LINE_OPTIONS_MAX];  /* of the command */
    int option_count;
    const char *log;        /* NULL: none */
    bool logs_json;
    bool has_other_cgroups; /* than those that it makes by itself below /sys/fs/cgroup, or none */
    const char *id;
    char **rest;            /* what stands behind the id, ends with NULL */
};

/* 0, or -EINVAL for a command line that is Python's. */
int parse_line(char **arguments, struct line *ret_line);

/* The value that was given last, NULL: none. */
const char *option_of(const struct line *line, const char *name);

/* Names are separated by spaces. */
bool is_among(const char *name, const char *names);

/* Whether no other options than those were given. */
bool has_only(const struct line *line, const char *names);

/* 9, KILL, SIGKILL and sigkill are 9; -EINVAL: none. */
int signal_of(const char *text);

#endif
