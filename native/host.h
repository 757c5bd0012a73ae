/* What the caller's side does for one process: the operations before the clone, and those on the child's pid. */
#ifndef PYRUNTIME_HOST_H
#define PYRUNTIME_HOST_H

#include <sys/un.h>

#include "child.h"
#include "plan.h"
#include "syscalls.h"
#include "tree.h"

struct host {
    const struct plan *plan;
    int *slots;
    const int *descriptors; /* that the caller passes on */
    int descriptor_count;
    int pid;                /* of the child, once there is one */
    int wire;
    struct child *child;
    char *detail;           /* MESSAGE_DETAIL bytes */
};

/* Run operations until one fails: 0 or -errno, and which. */
int run_host_operations(struct host *host, const struct operation *operations, uint32_t count, int *ret_index);

/* The error of a send to an init that has closed its side, maybe in the same moment: it says why by itself. */
static inline bool has_left(int error)
{
    return error == -EPIPE || error == -ECONNRESET;
}

/* What the operation was doing (and with what, or NULL) when it failed, in the detail: the error again. */
int explain(struct host *host, int error, const char *doing, const char *object);

int write_text(int directory, const char *name, const char *text);

/* Of userns.c. */
int make_user_namespace(struct host *host, const struct operation *op);
int map_offered_mount(struct host *host, const struct operation *op);

/* Of spawn.c. */
void kill_and_reap(int pidfd);

/* Of cgroups.c. */
int make_cgroup(struct host *host, const struct operation *op);
int enable_controllers(struct host *host, const struct operation *op);
int attach_device_program(struct host *host, const struct operation *op);
int own_cgroup(struct host *host, const struct operation *op);

/* Of id_maps.c. */
int map_child_ids(struct host *host, const struct operation *op);

/* What is said of a process counts for all that have its memory: the child must have its own by then. */
int await_own_memory(struct host *host);

/* Of settings.c. */
int write_file(struct host *host, const struct operation *op);

/* Of wire.c: one message that is there, and the descriptor that it carries (close-on-exec, -1 if none). 1: a message, 0: the other side
 * has closed, -EAGAIN: there is none yet. */
int receive_message(int socket, struct message *ret_message, int *ret_fd);

/* Of spawn.c: wait until the child has executed the init, or has ended: 0 or its error. -ETIMEDOUT: it had not by the deadline,
 * and was killed. */
int await_execution(struct child *child);

/* The address of a start socket. A state directory's path may be longer than a socket's may be: then a descriptor of the directory stands
 * for it, which the caller closes (-1: none). */
int start_address(const char *path, const char *name, int *ret_directory, struct sockaddr_un *ret_address);

#endif
