/* Making a process: from an encoded plan to a running static init with its descriptors in place. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "child.h"
#include "clone.h"
#include "host.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#define INIT_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

extern const unsigned char init_image[];

static int write_all(int fd, const char *data, uint64_t size)
{
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written < 0)
            return -errno;
        data += written;
        size -= (uint64_t)written;
    }
    return 0;
}

int open_init(void)
{
    AUTO_FD fd = memfd_create("pyruntime-init", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

    if (fd < 0 && errno == EINVAL)  /* before Linux 6.3 every memfd is executable */
        fd = memfd_create("pyruntime-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int error = write_all(fd, (const char *)init_image, init_image_size);
    if (error)
        return error;
    if (fcntl(fd, F_ADD_SEALS, INIT_SEALS) < 0)
        return -errno;
    return take_fd(&fd);
}

int reap_pidfd(int pidfd, struct exit_report *ret_report)
{
    siginfo_t info = {0};
    struct rusage usage;

    if (syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | __WALL, &usage) < 0)
        return -errno;
    *ret_report = (struct exit_report){
        .code = info.si_code,
        .status = info.si_status,
        .has_usage = 1,
        .user_microseconds = usage.ru_utime.tv_sec * 1000000L + usage.ru_utime.tv_usec,
        .system_microseconds = usage.ru_stime.tv_sec * 1000000L + usage.ru_stime.tv_usec,
        .peak_kibibytes = usage.ru_maxrss,
    };
    return 0;
}

void kill_and_reap(int pidfd)
{
    struct exit_report report;

    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (reap_pidfd(pidfd, &report) == -EINTR)
        ;
}

static struct timespec deadline_in(int timeout_ms)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += timeout_ms / 1000;
    time.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    return time;
}

/* The child goes on by itself, so that what the host prepares meanwhile takes no time. Until await_execution it uses the struct. */
static int clone_child(struct child *child, uint64_t flags, int cgroup, struct spawn_result *result)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = flags | CLONE_VM | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_CHILD_CLEARTID,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .child_tid = (uint64_t)(uintptr_t)&child->shares_memory,
        .stack = (uint64_t)(uintptr_t)child->stack,
        .stack_size = sizeof child->stack,
    };
    uint64_t all = ~0ULL, saved;

    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    child->shares_memory = 1;
    /* no handler of the caller's may run in the child; the raw call also blocks what the C library keeps for itself */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &saved, sizeof all);
    long pid = clone_and_enter(&args, enter_init, child);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &saved, NULL, sizeof saved);
    if (pid < 0) {
        child->shares_memory = 0;
        snprintf(result->detail, sizeof result->detail, "clone3");
        return (int)pid;
    }
    result->pid = (int32_t)pid;
    result->pidfd = child->pidfd = pidfd;
    return 0;
}

int await_execution(struct child *child)
{
    const struct timespec *deadline = &child->deadline;
    uint32_t shares;

    while ((shares = __atomic_load_n(&child->shares_memory, __ATOMIC_ACQUIRE))) {
        /* not FUTEX_PRIVATE_FLAG: the kernel wakes without it; the bits of FUTEX_WAIT_BITSET make the time an absolute one */
        long error = syscall(SYS_futex, &child->shares_memory, FUTEX_WAIT_BITSET, shares, deadline, NULL, FUTEX_BITSET_MATCH_ANY);
        if (error < 0 && errno == ETIMEDOUT && deadline) {
            /* in a frozen v2 cgroup, where it can still be killed; it uses the struct until it has ended */
            syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
            deadline = NULL;
        }
    }
    if (!deadline)
        child->error = -ETIMEDOUT;
    return child->error;
}

static int write_plan(const struct plan *plan)
{
    AUTO_FD fd = memfd_create("pyruntime-plan", MFD_CLOEXEC);
    int error = fd < 0 ? -errno : write_all(fd, plan->base, plan->header->size);

    return error ? error : take_fd(&fd);
}

/* A clone shares the caller's memory until it executes the init, and where a cgroup's memory is used up the kernel kills all that share the
 * memory of what it chooses. So the clone into a cgroup that may be limited is made by an init that is not in it, which has memory of its
 * own, and ends. */
static int clone_init(const struct plan *plan, const int *slots, uint64_t flags, int init_fd, int cgroup_slot,
                      const int *stdio, const int *descriptors, int wire, struct child *child, struct spawn_result *result)
{
    int preserved = (int)plan->header->preserve_fds, slot_count = (int)plan->header->host_slots;
    int callers = preserved - (int)plan->header->given_fds;
    int *sources = child->sources;
    const char *traceable = plan->header->is_traceable ? "t" : "";
    /* the child has a copy of all descriptors */
    AUTO_FD plan_fd = write_plan(plan);

    if (plan_fd < 0) {
        snprintf(result->detail, sizeof result->detail, "write the plan");
        return plan_fd;
    }
    for (int i = 0; i < 3; i++)
        sources[i] = stdio[i];
    for (int i = 0; i < preserved; i++)
        sources[3 + i] = i < callers ? -1 : descriptors[i - callers];
    sources[3 + preserved] = wire;
    sources[3 + preserved + 1] = plan_fd;
    for (int i = 0; i < slot_count; i++)
        sources[3 + preserved + 2 + i] = slots[i];
    child->count = 3 + preserved + 2 + slot_count;
    child->init_fd = init_fd;
    child->keep_capabilities = !plan->header->is_relayed && flags & CLONE_NEWUSER;
    if (plan->header->is_relayed) {
        snprintf(child->argument, sizeof child->argument, "%d%s:%d:%d", 3 + preserved, traceable, (int)flags,
                 3 + preserved + 2 + cgroup_slot);
        return clone_child(child, 0, -1, result);
    }
    snprintf(child->argument, sizeof child->argument, "%d%s", 3 + preserved, traceable);
    return clone_child(child, flags, cgroup_slot < 0 ? -1 : slots[cgroup_slot], result);
}

/* From the process that was cloned to the one that it has cloned. */
static int await_relay(int wire, int timeout_ms, struct child *child, struct spawn_result *result)
{
    struct conversation heard = {.pid = result->pid, .pidfd = result->pidfd, .console = -1, .listener = -1};
    int error = await_execution(child), got;

    result->phase = SPAWN_CLONE;
    if (error) {
        snprintf(result->detail, sizeof result->detail, "execute the init");
        return error;
    }
    do
        got = attend_init(wire, SUCCESSION_AWAITED, timeout_ms, &heard);
    while (got == -EINTR);
    result->pid = heard.pid;
    result->pidfd = heard.pidfd;
    if (heard.has_successor && !heard.error)
        return 0;
    snprintf(result->detail, sizeof result->detail, "%s", heard.error ? heard.detail : "the init has ended");
    return got < 0 ? got : heard.error ? -heard.error : got ? -ECHILD : -ETIMEDOUT;
}

/* The operations on the child, while it executes the init. */
static int accompany_child(struct host *host, struct spawn_result *result)
{
    const struct plan *plan = host->plan;

    result->phase = SPAWN_CHILD;
    int error = run_host_operations(host, plan->child, plan->header->child_count, &result->operation);
    int not_executed = await_execution(host->child);
    if (not_executed) {
        /* whatever else failed did so because of this */
        result->phase = SPAWN_CLONE;
        result->operation = -1;
        snprintf(result->detail, sizeof result->detail, "execute the init");
        return not_executed;
    }
    return error;
}

/* The caller's end is told who sends. */
static int open_wires(int *ret_wires)
{
    const int on = 1;
    AUTO_FD ours = -1;
    AUTO_FD childs = -1;
    int wires[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, wires) < 0)
        return -errno;
    ours = wires[0];
    childs = wires[1];
    if (setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    ret_wires[0] = take_fd(&ours);
    ret_wires[1] = take_fd(&childs);
    return 0;
}

int spawn_process(void *data, uint64_t size, uint64_t clone_flags, int init_fd, int cgroup_slot, const int *stdio,
                  const int *descriptors, int descriptor_count, int timeout_ms, struct spawn_result *ret_result)
{
    struct plan plan;
    int slots[PLAN_SLOT_LIMIT], sources[3 + 2 + 2 * PLAN_SLOT_LIMIT];
    int wires[2] = {-1, -1};
    struct child child;     /* mostly stack, which need not be written */
    struct host host = {.plan = &plan, .slots = slots, .descriptors = descriptors, .descriptor_count = descriptor_count,
                        .wire = -1, .child = &child, .detail = ret_result->detail};

    child.sources = sources;
    child.error = 0;
    child.shares_memory = 0;
    *ret_result = (struct spawn_result){.pid = -1, .pidfd = -1, .wire = -1, .phase = SPAWN_HOST, .operation = -1};
    int error = open_plan(data, size, &plan);
    if (error)
        return error;
    /* a caller that closes all descriptors, as a daemon does, closes ours, and its number may be another file's by now */
    if (fcntl(init_fd, F_GET_SEALS) != INIT_SEALS)
        return -EBADFD;
    uint32_t slot_count = plan.header->host_slots + plan.header->late_slots;
    if (plan.header->given_fds > (uint32_t)descriptor_count)
        return -EBADMSG;
    if (cgroup_slot >= (int)plan.header->host_slots || (plan.header->is_relayed && cgroup_slot < 0))
        return -EBADMSG;
    /* one that is not open would become a descriptor of ours, and reach the user program */
    for (uint32_t i = 0; i < plan.header->preserve_fds - plan.header->given_fds; i++)
        if (fcntl(3 + (int)i, F_GETFD) < 0) {
            snprintf(ret_result->detail, MESSAGE_DETAIL, "preserve descriptor %u", 3 + i);
            return -errno;
        }
    for (uint32_t i = 0; i < slot_count; i++)
        slots[i] = -1;
    error = run_host_operations(&host, plan.host, plan.header->host_count, &ret_result->operation);
    if (!error) {
        ret_result->phase = SPAWN_CLONE;
        error = open_wires(wires);
    }
    child.deadline = deadline_in(timeout_ms);
    if (!error)
        error = clone_init(&plan, slots, clone_flags, init_fd, cgroup_slot, stdio, descriptors, wires[1], &child, ret_result);
    close_fd(&wires[1]);
    if (!error) {
        error = plan.header->is_relayed ? await_relay(wires[0], timeout_ms, &child, ret_result) : 0;
        host.pid = ret_result->pid;
        host.wire = wires[0];
        if (!error)
            error = accompany_child(&host, ret_result);
        if (error)
            kill_and_reap(ret_result->pidfd);
    }
    for (uint32_t i = 0; i < slot_count; i++)
        close_fd(&slots[i]);
    if (error) {
        close_fd(&ret_result->pidfd);
        close_fd(&wires[0]);
        ret_result->pidfd = -1;
        return error;
    }
    ret_result->wire = wires[0];
    return 0;
}
