/* Kept plans, as the front end takes them. */
#ifndef PYRUNTIME_KEPT_H
#define PYRUNTIME_KEPT_H

#include "front.h"
#include "abi_kept.h"

/* A file with a kept plan, mapped: the parts of it. */
struct kept {
    const struct kept_plan *head;
    char *plan;
    const char *holes;
    const char *key;
    const char *record;
    const char *rootfs;
    const char *cgroup;
    const char *text;
    const char *json;
    uint64_t size;
    struct kept_values values;  /* those of the command line */
};

/* Of front_place.c: where a command line's container is, and whether a front end may see to it at all: 0 or HAND_OVER. */
int locate(char **arguments, struct front *ret_front);

/* Whether nobody else can change what an absolute path without links leads to, root apart. */
bool is_nobody_elses(const char *path);

/* Of kept.c: the plan that is kept for a command line: 0 or HAND_OVER. */
int find_kept(char **arguments, struct kept *ret_kept);

/* The bundle that create and run are about, absolute: 0 or HAND_OVER. */
int bundle_of(const struct line *line, char *ret_path, uint64_t size);

void unmap_kept(const struct kept *kept);
#define AUTO_KEPT __attribute__((cleanup(unmap_kept))) struct kept

#endif
