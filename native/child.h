/* The clone's child until it executes the static init. */
#ifndef PYRUNTIME_CHILD_H
#define PYRUNTIME_CHILD_H

#include <stdbool.h>

/* Shared with it, since it runs in the caller's address space. */
struct child {
    int *sources;           /* by target number; -1: stays what it is (a preserved descriptor) */
    int count;
    int init_fd;
    bool keep_capabilities;
    char wire_text[12];
    int error;
};

/* Executes the init, or leaves an error in the struct child. */
void enter_init(void *child);

#endif
