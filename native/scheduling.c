/* Where the user program runs: CPUs, memory nodes, execution domain. */
#include <string.h>

#include "init.h"

/* as many as Linux can be built for; the kernel ignores what it has not */
#define CPUS_MAX 8192

/* text: the CPUs, as bits; number: bytes of it */
OPERATION(set_affinity)
{
    if (syscall(SYS_sched_setaffinity, 0, op->number[0], plan_text(&init->plan, op, 0)) < 0)
        return explain(init, -errno, errno == EINVAL ? "none of them is in the cgroup's cpuset" : "sched_setaffinity");
    return 0;
}

/* What the caller may run on, a daemon that is bound to some CPUs, is not what the container may: that is for its cpuset, to which the
 * kernel narrows this. Setting takes no longer than finding out whether it is all already. */
OPERATION(reset_affinity)
{
    unsigned char every[CPUS_MAX / 8];

    (void)op;
    memset(every, 0xff, sizeof every);
    return syscall(SYS_sched_setaffinity, 0, sizeof every, every) < 0 ? explain(init, -errno, "sched_setaffinity") : 0;
}

/* text: the nodes, as bits; numbers: bytes of it, the mode with its flags */
OPERATION(set_memory_policy)
{
    const char *nodes = op->number[0] ? plan_text(&init->plan, op, 0) : NULL;

    /* the kernel takes one bit less than it is told (get_nodes() in mm/mempolicy.c) */
    if (syscall(SYS_set_mempolicy, op->number[1], nodes, nodes ? op->number[0] * 8 + 1 : 0) < 0)
        return explain(init, -errno, "set_mempolicy");
    return 0;
}

OPERATION(set_personality)
{
    return syscall(SYS_personality, op->number[0]) < 0 ? explain(init, -errno, "personality") : 0;
}

/* Everything but the program's execution is done; the host does what only it may. */
OPERATION(await_scheduling)
{
    struct message message = {.type = MESSAGE_SET_UP, .operation = -1};
    int error = send_message(init->wire, &message, -1);

    return error < 0 ? explain(init, error, "tell that it is set up") : await_release(init, op);
}
