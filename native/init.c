/* The static init: the first process of a container until it becomes the user program.
 *
 * Started as `pyruntime-init` with the descriptors 0, 1, 2 and 3 .. 2+preserve_fds of the user program, then the wire,
 * the plan, and the host's slots. argv[1] is the number of the wire, a `t` if the init is traceable at first, and if another process is to be
 * cloned first, behind colons its flags, CLONE_NEW..., and the descriptor of its cgroup. */
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "init.h"

static const struct {
    const char *name;
    int (*run)(struct init *init, const struct operation *op);
} operations[OP_END] = {
#define ROW(kind, function) [kind] = {#function, function}
    ROW(OP_SET_AFFINITY, set_affinity),
    ROW(OP_SET_MEMORY_POLICY, set_memory_policy),
    ROW(OP_SET_PERSONALITY, set_personality),
    ROW(OP_AWAIT_SCHEDULING, await_scheduling),
    ROW(OP_OPEN_TREE, open_tree_inside),
    ROW(OP_RESET_AFFINITY, reset_affinity),
    ROW(OP_RECEIVE_SLOTS, receive_slots),
    ROW(OP_JOIN_CGROUP, join_cgroup),
    ROW(OP_JOIN_NAMESPACE, join_namespace),
    ROW(OP_JOIN_PROCESS_NAMESPACES, join_process_namespaces),
    ROW(OP_AWAIT_RELEASE, await_release),
    ROW(OP_BECOME_NAMESPACE_ROOT, become_namespace_root),
    ROW(OP_UNSHARE_NAMESPACES, unshare_namespaces),
    ROW(OP_OPEN_TIME_OFFSETS, open_time_offsets),
    ROW(OP_UNSHARE_TIME_NAMESPACE, unshare_time_namespace),
    ROW(OP_ENTER_PID_NAMESPACE, enter_pid_namespace),
    ROW(OP_ISOLATE_PROPAGATION, isolate_propagation),
    ROW(OP_SET_ATTRIBUTES_AT, set_attributes_at),
    ROW(OP_COPY_TREE, copy_tree_inside),
    ROW(OP_OFFER_MOUNT, offer_mount),
    ROW(OP_OPEN_PROC, open_proc),
    ROW(OP_WRITE_PROC, write_proc),
    ROW(OP_NEW_FILESYSTEM, new_filesystem),
    ROW(OP_NEW_TMPFS, new_tmpfs),
    ROW(OP_LABEL_FILESYSTEM, label_filesystem),
    ROW(OP_SET_MOUNT_ATTRIBUTES, apply_mount_attributes),
    ROW(OP_SET_UNLOCKED_ATTRIBUTES, apply_unlocked_attributes),
    ROW(OP_MAP_MOUNT_IDS, map_mount_ids),
    ROW(OP_RECONFIGURE_FILESYSTEM, reconfigure_filesystem),
    ROW(OP_COUNT_VERSIONS, count_versions),
    ROW(OP_COPY_UP, copy_up),
    ROW(OP_PIVOT_ROOT, change_to_pivot_root),
    ROW(OP_SWITCH_ROOT, switch_root),
    ROW(OP_MOUNT_ROOT, mount_root),
    ROW(OP_USE_ROOT, use_root),
    ROW(OP_OPEN_ROOT_PLACE, open_root_place),
    ROW(OP_PLACE_ROOT, place_root),
    ROW(OP_ENTER_ROOT, enter_root),
    ROW(OP_ATTACH_MOUNT, attach_mount),
    ROW(OP_MAKE_DIRECTORY, make_directory),
    ROW(OP_MAKE_MOUNT_POINT, make_mount_point),
    ROW(OP_MAKE_NODE, make_node),
    ROW(OP_MAKE_LINK, make_link),
    ROW(OP_OPEN_CONSOLE, open_console),
    ROW(OP_START_SESSION, start_session),
    ROW(OP_MASK_PATH, mask_path),
    ROW(OP_PROTECT_PATH, protect_path),
    ROW(OP_SET_HOSTNAME, set_hostname),
    ROW(OP_SET_DOMAINNAME, set_domainname),
    ROW(OP_RAISE_LOOPBACK, raise_loopback),
    ROW(OP_ANNOUNCE_NETWORK, announce_network),
    ROW(OP_JOIN_SESSION_KEYRING, join_session_keyring),
    ROW(OP_ANNOUNCE_HOOKS, announce_hooks),
    ROW(OP_RUN_HOOK, run_hook),
    ROW(OP_AWAIT_START, await_start),
    ROW(OP_CHANGE_DIRECTORY, change_directory),
    ROW(OP_SET_RLIMIT, set_rlimit),
    ROW(OP_OWN_STDIO, own_stdio),
    ROW(OP_SET_HOME, set_home),
    ROW(OP_SET_BOUNDING_CAPABILITIES, set_bounding_capabilities),
    ROW(OP_SET_APPARMOR_PROFILE, set_apparmor_profile),
    ROW(OP_SET_IDENTITY, set_identity),
    ROW(OP_SET_CAPABILITIES, set_capabilities),
    ROW(OP_SET_AMBIENT_CAPABILITIES, set_ambient_capabilities),
    ROW(OP_SET_NO_NEW_PRIVILEGES, set_no_new_privileges),
    ROW(OP_SET_UMASK, set_umask),
    ROW(OP_FIND_PROGRAM, find_program),
    ROW(OP_INSTALL_FILTER, install_filter),
    ROW(OP_EXECUTE_PROGRAM, execute_program),
    ROW(OP_REFUSE_START, refuse_start),
#undef ROW
};

int explain_path(struct init *init, int error, const char *doing, const char *path)
{
    size_t length = strlen(doing), rest = strlen(path);

    if (length > MESSAGE_DETAIL / 2)
        length = MESSAGE_DETAIL / 2;
    memcpy(init->detail, doing, length);
    if (rest) {
        init->detail[length++] = ' ';
        if (rest > MESSAGE_DETAIL - 1 - length)
            rest = MESSAGE_DETAIL - 1 - length;
        memcpy(init->detail + length, path, rest);
    }
    init->detail[length + rest] = 0;
    return error;
}

int explain(struct init *init, int error, const char *doing)
{
    return explain_path(init, error, doing, "");
}

int send_message(int wire, const struct message *message, int fd)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        packet.msg_control = control.space;
        packet.msg_controllen = sizeof control.space;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return (int)checked(sendmsg(wire, &packet, MSG_NOSIGNAL));
}

/* numbers: the first of the late slots, how many */
OPERATION(receive_slots)
{
    const struct plan_header *header = init->plan.header;
    uint64_t first = op->number[0], count = op->number[1];
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(SLOTS_PER_MESSAGE * sizeof(int))];
    } control;
    struct msghdr packet = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};

    if (first > header->late_slots || count > SLOTS_PER_MESSAGE || count > header->late_slots - first)
        return explain(init, -EBADMSG, "no such slots");
    ssize_t length = recvmsg(init->wire, &packet, MSG_CMSG_CLOEXEC);
    if (length < 0)
        return explain(init, -errno, "receive descriptors");
    const struct cmsghdr *item = CMSG_FIRSTHDR(&packet);
    if (length != 1 || !item || item->cmsg_type != SCM_RIGHTS || item->cmsg_len != CMSG_LEN(count * sizeof(int)))
        return explain(init, -EPIPE, "receive descriptors");
    memcpy(&init->slots[header->host_slots + first], CMSG_DATA(item), count * sizeof(int));
    return 0;
}

_Noreturn void end_process(int status)
{
    syscall(SYS_exit_group, status);
    /* the C library would try for ever */
    __builtin_trap();
}

static void fail(struct init *init, int operation, int error)
{
    struct message message = {.type = MESSAGE_FAILURE, .operation = operation, .error = -error, .hook = init->hook};

    if (operation >= 0)
        message.kind = init->plan.init[operation].kind;
    memcpy(message.detail, init->detail, sizeof message.detail);
    if (init->wire >= 0)
        send_message(init->wire, &message, -1);
    end_process(127);
}

/* The kernel drops what the first process of a pid namespace has no handler for, and its own signals too. */
static void end_as_asked(int number)
{
    kill(getpid(), number);
    end_process(128 + number);
}

/* Signals that the caller ignores (Python ignores SIGPIPE) would stay ignored in the user program. By which a process is asked to end, that
 * ends this one, before the start too; the program does not inherit handlers. By raw calls: the C library keeps 32 to 34 for itself and
 * leaves them alone. */
static void reset_signals(void)
{
    const uint64_t none = 0, asks = 1U << SIGHUP | 1U << SIGINT | 1U << SIGQUIT | 1U << SIGTERM;
    /* struct sigaction of the kernel: handler, flags, restorer, mask; what never returns needs a restorer in name only */
    const uint64_t defaults[4] = {0}, ends[4] = {(uint64_t)(uintptr_t)end_as_asked, SA_RESETHAND | SA_NODEFER | SA_RESTORER,
                                                 (uint64_t)(uintptr_t)end_as_asked, 0};

    for (int number = 1; number < 65; number++)
        syscall(SYS_rt_sigaction, number, number < 32 && asks >> number & 1 ? ends : defaults, NULL, sizeof none);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

static int map_plan(struct init *init, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return -errno;
    close(fd);
    return open_plan(data, (uint64_t)st.st_size, &init->plan);
}

/* The init proper, in its cgroup and its namespaces, as the caller's child; this process tells of it, and ends. */
static void relay(struct init *init, const char *flags)
{
    int pidfd = -1;
    const char *cgroup = strchr(flags, ':');
    struct clone_args args = {.flags = (uint64_t)atoi(flags) | CLONE_PARENT | CLONE_PIDFD | CLONE_INTO_CGROUP,
                              .pidfd = (uint64_t)(uintptr_t)&pidfd, .cgroup = cgroup ? (uint64_t)atoi(cgroup + 1) : 0};
    long pid = syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0) {
        /* the caller takes in nothing but who it is, and nothing may run that it does not know of */
        int error = await_byte(init);
        if (error)
            fail(init, -1, error);
        return;
    }
    if (pid < 0)
        fail(init, -1, explain(init, -errno, "clone3"));
    struct message message = {.type = MESSAGE_PROCESS, .operation = -1, .pid = (int32_t)pid};
    if (send_message(init->wire, &message, pidfd) < 0)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    end_process(0);
}

int main(int argc, char **argv)
{
    struct init init;

    if (argc != 2)
        _exit(126);
    /* only what is read before it is written: the slots need not be touched */
    init.wire = atoi(argv[1]);
    init.first_fd = init.wire;
    init.parent = -1;
    init.home = NULL;
    init.hook = (struct hook_end){0};
    init.has_masked[0] = init.has_masked[1] = init.is_in_chroot = init.is_announced = init.is_sealed = init.is_wire_alone = false;
    memset(init.detail, 0, sizeof init.detail);
    /* Before any namespace is joined: nothing in a container may trace this process or open its descriptors. A caller without privileges
     * could not write to what the kernel then takes for root's, its id maps; so there this is done once they are written. */
    init.is_traceable = strchr(argv[1], 't') != NULL;
    prctl(PR_SET_DUMPABLE, init.is_traceable);
    prctl(PR_SET_NAME, "pyruntime-init");
    reset_signals();
    umask(0);
    const char *flags = strchr(argv[1], ':');
    if (flags)
        relay(&init, flags + 1);
    int error = map_plan(&init, init.wire + 1);
    if (error)
        fail(&init, -1, explain(&init, error, "read the plan"));
    for (uint32_t slot = 0; slot < init.plan.header->host_slots; slot++)
        init.slots[slot] = init.wire + 2 + (int)slot;
    for (uint32_t slot = init.plan.header->host_slots; slot < init.plan.header->slots; slot++)
        init.slots[slot] = -1;
    if (close_from((unsigned int)init.wire, CLOSE_RANGE_CLOEXEC) < 0)
        fail(&init, -1, explain(&init, -errno, "close_range"));
    for (uint32_t i = 0; i < init.plan.header->init_count; i++) {
        const struct operation *op = &init.plan.init[i];
        init.detail[0] = 0;
        error = operations[op->kind].run ? operations[op->kind].run(&init, op) : -ENOSYS;
        if (error)
            fail(&init, (int)i, error);
    }
    fail(&init, -1, explain(&init, -EBADMSG, "the plan does not end in a program"));
}
