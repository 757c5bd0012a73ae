/* The clone's child until it executes the static init. It runs beside the caller's thread in one address space, so all that it uses
 * has to stay where it is until await_execution has returned. */
#ifndef PYRUNTIME_CHILD_H
#define PYRUNTIME_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "plan.h"

#define CHILD_STACK 16384

struct child {
    int *sources;           /* by target number; -1: stays what it is (a preserved descriptor) */
    int count;
    int init_fd;
    bool keep_capabilities;
    char argument[40];      /* the init's */
    int pidfd;              /* of it; for await_execution, as what follows */
    struct timespec deadline;   /* on CLOCK_MONOTONIC */
    int error;              /* of a child that could not execute the init */
    uint32_t shares_memory; /* the kernel makes it 0 and wakes who waits for that (CLONE_CHILD_CLEARTID) */
    char stack[CHILD_STACK] __attribute__((aligned(16)));
};

/* Executes the init, or leaves an error in the struct child. */
void enter_init(void *child);

#endif
