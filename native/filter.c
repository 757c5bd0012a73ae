/* The container's filter of system calls, which the host's libseccomp has made (native/seccomp.c). */
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>

#include "init.h"
#include "listener.h"

/* Sets of capabilities with CAP_SYS_ADMIN, which installing takes, and without it, as the program has them. */
struct admin_rights {
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct with[2];
    struct __user_cap_data_struct without[2];
};

static int set_capability_sets(struct admin_rights *rights, const struct __user_cap_data_struct *sets)
{
    rights->header.version = _LINUX_CAPABILITY_VERSION_3;
    return (int)checked(syscall(SYS_capset, &rights->header, sets));
}

static int raise_admin(struct admin_rights *rights, uint64_t revokes)
{
    const uint32_t admin = 1U << CAP_SYS_ADMIN;

    rights->header.version = _LINUX_CAPABILITY_VERSION_3;
    if (syscall(SYS_capget, &rights->header, rights->with) < 0)
        return -errno;
    memcpy(rights->without, rights->with, sizeof rights->without);
    rights->with[0].effective |= admin;
    if (revokes & FILTER_REVOKES_PERMITTED)
        rights->without[0].permitted &= ~admin;
    return set_capability_sets(rights, rights->with);
}

/* By the process itself, where no thread can do it: the caller takes care that nobody is notified of sendmsg. */
static int send_listener(struct init *init, int listener)
{
    struct message message = {.type = MESSAGE_LISTENER, .operation = -1};
    char byte;
    int error = send_message(init->wire, &message, listener);

    if (error < 0)
        return explain(init, error, "sendmsg, which the filter has to allow without noNewPrivileges");
    ssize_t got = read(init->wire, &byte, 1);
    return got == 1 ? 0 : explain(init, got < 0 ? -errno : -EPIPE, "wait until the listener is passed on");
}

/* What need not happen under the filter. */
static int prepare_successor(struct init *init, uint64_t before)
{
    if (before == FILTER_BEFORE_PROGRAM)
        return announce_execution(init);
    return before == FILTER_BEFORE_CLONE ? keep_wire_alone(init) : keep_start_socket(init);
}

int filter_of(const struct init *init, const struct operation *op, struct sock_fprog *ret_program)
{
    uint64_t size = op->number[0];

    if (size > BPF_MAXINSNS * sizeof(struct sock_filter) || size % sizeof(struct sock_filter))
        return -EBADMSG;
    ret_program->len = (unsigned short)(size / sizeof(struct sock_filter));
    ret_program->filter = (struct sock_filter *)(void *)(init->plan.base + op->text[0]);
    return 0;
}

/* text: the program; numbers: its bytes, flags of seccomp(2), enum filter_revokes, enum filter_place */
OPERATION(install_filter)
{
    uint64_t revokes = op->number[2];
    struct admin_rights rights = {0};
    struct handover handover;
    bool notifies = op->number[1] & SECCOMP_FILTER_FLAG_NEW_LISTENER;
    struct sock_fprog program;
    int error = filter_of(init, op, &program);

    if (error)
        return explain(init, error, "it is no program");
    error = prepare_successor(init, op->number[3]);
    if (error)
        return error;
    /* a process that is about to make others in another pid namespace can have no second thread */
    bool has_thread = notifies && op->number[3] != FILTER_BEFORE_CLONE;
    if (has_thread && (error = prepare_handover(init, &handover)))
        return error;
    if (revokes && (error = raise_admin(&rights, revokes)))
        return explain(init, error, "raise CAP_SYS_ADMIN");
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->number[1], &program);
    if (listener < 0)
        return explain(init, -errno, "seccomp");
    init->is_filtered = true;
    if (has_thread) {
        hand_over(&handover, listener);
        /* what execution would close too */
        if (op->number[3] == FILTER_BEFORE_START) {
            close(handover.faults);
            close(listener);
        }
    } else if (notifies && (error = send_listener(init, listener)))
        return error;
    /* from here on the configuration says what this process may do */
    if (revokes && (error = set_capability_sets(&rights, rights.without)))
        return explain(init, error, "capset, which the filter has to allow without noNewPrivileges");
    if (op->number[3] == FILTER_BEFORE_CLONE) {
        /* a process that the caller is not told of would not be reaped: better none is made */
        struct message message = {.type = MESSAGE_FILTERED, .operation = -1};
        error = send_message(init->wire, &message, -1);
        if (error < 0)
            return explain(init, error, "sendmsg, which the filter has to allow without noNewPrivileges");
    }
    return 0;
}
