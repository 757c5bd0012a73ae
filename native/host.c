/* The host operations: descriptors that the child gets, and what is written about the child from outside. Those on cgroups are in
 * cgroups.c and settings.c, and what maps its ids in id_maps.c. */
#define _GNU_SOURCE
#include "host.h"

#include <linux/nsfs.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

int explain(struct host *host, int error, const char *doing, const char *object)
{
    snprintf(host->detail, MESSAGE_DETAIL, object ? "%.100s %.120s" : "%.100s", doing, object);
    return error;
}

int write_text(int directory, const char *name, const char *text)
{
    AUTO_FD fd = open_at(directory, name, O_WRONLY, 0, 0);

    if (fd < 0)
        return fd;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int fill_slot(struct host *host, const struct operation *op, int fd, const char *doing)
{
    if (fd < 0)
        return explain(host, fd, doing, NULL);
    host->slots[op->slot[0]] = fd;
    return 0;
}

static int pass_descriptor(struct host *host, const struct operation *op)
{
    if (op->number[0] >= (uint64_t)host->descriptor_count)
        return explain(host, -EBADF, "no such descriptor is passed", NULL);
    int fd = host->descriptors[op->number[0]];
    return fill_slot(host, op, (int)checked(fcntl(fd, F_DUPFD_CLOEXEC, 3)), "duplicate");
}

/* numbers: attributes to set, to clear, propagation, 1 for recursive */
static int finish_tree(struct host *host, const struct operation *op)
{
    struct mount_attr attributes = {
        .attr_set = op->number[0], .attr_clr = op->number[1], .propagation = op->number[2]};
    int error = set_mount_attributes(host->slots[op->slot[0]], op->number[3] ? AT_RECURSIVE : 0, &attributes);

    return error ? explain(host, error, "set mount attributes", NULL) : 0;
}

static int finish_locked_tree(struct host *host, const struct operation *op)
{
    int error = set_unlocked_attributes(host->slots[op->slot[0]], op->number);

    return error ? explain(host, error, error == -EPERM ? LOCKED_ATTRIBUTES : "set mount attributes", NULL) : 0;
}

/* slots: the mount, which has been attached nowhere yet, and a user namespace; number: 1 for recursive */
static int map_mount_ids(struct host *host, const struct operation *op)
{
    int error = map_ids_of_mount(host->slots[op->slot[0]], host->slots[op->slot[1]], op->number[0]);

    return error ? explain(host, error, error == -EINVAL ? NO_MAPPED_MOUNTS : "map the ids", NULL) : 0;
}

static int open_cgroup(struct host *host, const struct operation *op)
{
    return fill_slot(host, op, open_at(AT_FDCWD, plan_text(host->plan, op, 0), O_RDONLY | O_DIRECTORY, 0, 0), "open");
}

static int open_tasks(struct host *host, const struct operation *op)
{
    return fill_slot(host, op, open_at(AT_FDCWD, plan_text(host->plan, op, 0), O_WRONLY, 0, 0), "open");
}

static int open_host_tree(struct host *host, const struct operation *op)
{
    const char *doing;
    int tree = copy_tree(AT_FDCWD, plan_text(host->plan, op, 0), op->number, &doing);

    return fill_slot(host, op, tree, doing);
}

/* 1: the calling thread is in it. */
static int is_own_namespace(int namespace, int type)
{
    static const struct {
        int type;
        const char *path;
    } own[] = {
        {CLONE_NEWUSER, "/proc/thread-self/ns/user"}, {CLONE_NEWPID, "/proc/thread-self/ns/pid"},
        {CLONE_NEWNET, "/proc/thread-self/ns/net"},   {CLONE_NEWIPC, "/proc/thread-self/ns/ipc"},
        {CLONE_NEWUTS, "/proc/thread-self/ns/uts"},   {CLONE_NEWNS, "/proc/thread-self/ns/mnt"},
        {CLONE_NEWCGROUP, "/proc/thread-self/ns/cgroup"}, {CLONE_NEWTIME, "/proc/thread-self/ns/time"},
    };
    struct stat joined, ours;

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].type == type) {
            if (fstat(namespace, &joined) < 0 || stat(own[i].path, &ours) < 0)
                return -errno;
            return joined.st_dev == ours.st_dev && joined.st_ino == ours.st_ino;
        }
    return -EINVAL;
}

/* numbers: the type that it must be, 1 if it may not be the caller's own */
static int open_namespace(struct host *host, const struct operation *op)
{
    AUTO_FD fd = open_at(AT_FDCWD, plan_text(host->plan, op, 0), O_RDONLY, 0, 0);

    if (fd < 0)
        return explain(host, fd, "open", NULL);
    int type = ioctl(fd, NS_GET_NSTYPE);
    if (type < 0)
        return explain(host, -EINVAL, "it is not a namespace", NULL);
    if (type != (int)op->number[0])
        return explain(host, -EINVAL, "it is a namespace of another type", NULL);
    int is_own = op->number[1] ? is_own_namespace(fd, type) : 0;
    if (is_own)
        return explain(host, is_own < 0 ? is_own : -EPERM, is_own < 0 ? "compare with the caller's"
                       : "it is the host's own, in which something would be changed", NULL);
    return fill_slot(host, op, take_fd(&fd), "open");
}

static int listen_for_start(struct host *host, const struct operation *op)
{
    struct sockaddr_un address = {0};
    const char *name = plan_text(host->plan, op, 1);
    AUTO_FD directory = -1;
    AUTO_FD listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (listener < 0)
        return explain(host, -errno, "socket", NULL);
    int error = start_address(plan_text(host->plan, op, 0), name, &directory, &address);
    if (error)
        return explain(host, error, "name", name);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        return explain(host, -errno, "bind", name);
    if (listen(listener, 1) < 0)
        return explain(host, -errno, "listen", name);
    return fill_slot(host, op, take_fd(&listener), "listen");
}

#define INIT_NAME "/memfd:pyruntime-init"
#define REFUSALS_MAX 50000      /* a second */

/* The kernel wakes await_execution before it gives the child its own, and may wait in between for a thread of the caller's that changes
 * mappings. */
int await_own_memory(struct host *host)
{
    const struct timespec pause = {.tv_nsec = 20000};
    char path[32], name[sizeof INIT_NAME];
    int error = await_execution(host->child), refusals = 0;

    if (error)
        return explain(host, error, "execute the init", NULL);
    snprintf(path, sizeof path, "/proc/%d/exe", host->pid);
    for (;;) {
        ssize_t length = readlink(path, name, sizeof name);
        /* the memory of a caller that is not dumpable is closed to itself, without privileges */
        bool is_refused = length < 0 && (errno == EACCES || errno == EPERM) && refusals++ < REFUSALS_MAX;
        /* one that has ended has none */
        if (!is_refused && (length <= 0 || memcmp(name, INIT_NAME, sizeof INIT_NAME - 1) == 0))
            return 0;
        nanosleep(&pause, NULL);
    }
}

static int write_child_proc(struct host *host, const struct operation *op)
{
    char path[64];
    int error = await_own_memory(host);

    if (error)
        return error;

    snprintf(path, sizeof path, "/proc/%d/%s", host->pid, plan_text(host->plan, op, 0));
    error = write_text(AT_FDCWD, path, plan_text(host->plan, op, 1));
    return error ? explain(host, error, "write", plan_text(host->plan, op, 1)) : 0;
}

/* A process in a user namespace may not raise its own hard limits. */
static int raise_hard_limit(struct host *host, const struct operation *op)
{
    struct rlimit limit;

    if (prlimit(host->pid, (int)op->number[0], NULL, &limit) < 0)
        return explain(host, -errno, "read the limit", NULL);
    if (limit.rlim_max >= op->number[1])
        return 0;
    limit.rlim_max = op->number[1];
    return prlimit(host->pid, (int)op->number[0], &limit, NULL) < 0 ? explain(host, -errno, "prlimit", NULL) : 0;
}

/* numbers: the first of the late slots, how many */
static int pass_slots(struct host *host, const struct operation *op)
{
    const struct plan_header *header = host->plan->header;
    uint64_t first = op->number[0], count = op->number[1];
    char byte = 0;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(SLOTS_PER_MESSAGE * sizeof(int))];
    } control = {0};

    if (first > header->late_slots || count == 0 || count > SLOTS_PER_MESSAGE || count > header->late_slots - first)
        return explain(host, -EBADMSG, "no such slots", NULL);
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                            .msg_controllen = (unsigned int)CMSG_SPACE(count * sizeof(int))};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = (unsigned int)CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), &host->slots[header->host_slots + first], count * sizeof(int));
    if (sendmsg(host->wire, &packet, MSG_NOSIGNAL) < 0 && !has_left(-errno))
        return explain(host, -errno, "pass descriptors", NULL);
    return 0;
}

static int release_child(struct host *host, const struct operation *op)
{
    int error = release_process(host->wire);

    (void)op;
    return error && !has_left(error) ? explain(host, error, "release the child", NULL) : 0;
}

static int (*const operations_of_host[OP_END])(struct host *host, const struct operation *op) = {
    [OP_MAKE_CGROUP] = make_cgroup,
    [OP_ENABLE_CONTROLLERS] = enable_controllers,
    [OP_WRITE_FILE] = write_file,
    [OP_ATTACH_DEVICE_PROGRAM] = attach_device_program,
    [OP_OWN_CGROUP] = own_cgroup,
    [OP_OPEN_CGROUP] = open_cgroup,
    [OP_OPEN_TASKS] = open_tasks,
    [OP_OPEN_TREE] = open_host_tree,
    [OP_MAKE_USER_NAMESPACE] = make_user_namespace,
    [OP_MAP_MOUNT_IDS] = map_mount_ids,
    [OP_OPEN_NAMESPACE] = open_namespace,
    [OP_PASS_DESCRIPTOR] = pass_descriptor,
    [OP_SET_MOUNT_ATTRIBUTES] = finish_tree,
    [OP_SET_UNLOCKED_ATTRIBUTES] = finish_locked_tree,
    [OP_LISTEN_FOR_START] = listen_for_start,
    [OP_WRITE_CHILD_PROC] = write_child_proc,
    [OP_RAISE_HARD_LIMIT] = raise_hard_limit,
    [OP_MAP_CHILD_IDS] = map_child_ids,
    [OP_RELEASE_CHILD] = release_child,
    [OP_PASS_SLOTS] = pass_slots,
    [OP_MAP_OFFERED_MOUNT] = map_offered_mount,
};

int run_host_operations(struct host *host, const struct operation *operations, uint32_t count, int *ret_index)
{
    for (uint32_t i = 0; i < count; i++) {
        host->detail[0] = 0;
        int error = operations_of_host[operations[i].kind] ? operations_of_host[operations[i].kind](host, &operations[i])
                                                           : -ENOSYS;
        if (error) {
            *ret_index = (int)i;
            return error;
        }
    }
    return 0;
}

int run_host_plan(void *data, uint64_t size, struct spawn_result *ret_result)
{
    struct plan plan;
    struct host host = {.plan = &plan, .wire = -1, .detail = ret_result->detail};

    *ret_result = (struct spawn_result){.pid = -1, .pidfd = -1, .wire = -1, .phase = SPAWN_HOST, .operation = -1};
    int error = open_plan(data, size, &plan);
    if (error)
        return error;
    if (plan.header->child_count || plan.header->init_count || plan.header->slots)
        return -EBADMSG;
    return run_host_operations(&host, plan.host, plan.header->host_count, &ret_result->operation);
}
