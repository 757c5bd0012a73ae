/* When a process runs: what the caller sets from outside, who is privileged where a container's process is not any more. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plan.h"
#include "syscalls.h"

#define IOPRIO_WHO_PROCESS 1

/* struct sched_attr of <linux/sched/types.h>, which clashes with the C library's in newer ones */
struct scheduling_attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
    uint32_t utilization_min;
    uint32_t utilization_max;
};

int set_scheduler(int pid, const struct scheduler *scheduler)
{
    struct scheduling_attributes attributes = {
        .size = sizeof attributes,
        .policy = scheduler->policy,
        .flags = scheduler->flags,
        .nice = scheduler->nice,
        .priority = scheduler->priority,
        .runtime = scheduler->runtime,
        .deadline = scheduler->deadline,
        .period = scheduler->period,
    };

    return (int)checked(syscall(SYS_sched_setattr, pid, &attributes, 0));
}

int set_io_priority(int pid, int priority)
{
    return (int)checked(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority));
}
