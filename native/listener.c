/* Who is notified of a filter's calls gets the filter's descriptor before this process makes any other system call, since each may be one
 * that is notified of, and wait for an answer that nobody can give. So a second thread, which is not under the filter, passes it on. It
 * waits in a read of a userfaultfd until the first thread, back from seccomp(2), touches a page that is not there; that thread waits in
 * this page fault until the page is put there. */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "clone.h"
#include "init.h"
#include "listener.h"
#include "raw.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define PAGE_BYTES 65536   /* a multiple of what any kernel has */

static long address(const void *pointer)
{
    return (long)(uintptr_t)pointer;
}

static long send_from_thread(int wire, int listener)
{
    struct message message = {.type = MESSAGE_LISTENER, .operation = -1};
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr packet = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)(void *)CMSG_DATA(&control.header) = listener;
    return raw_call(SYS_sendmsg, wire, address(&packet), MSG_NOSIGNAL, 0, 0);
}

/* The second thread. Its thread-local storage, errno too, is the first one's. */
static void pass_listener(void *argument)
{
    struct handover *handover = argument;
    struct uffd_msg event;
    struct uffdio_zeropage page = {.range = {.start = (uint64_t)(uintptr_t)handover->page, .len = PAGE_BYTES}};
    char byte;
    long got;

    while ((got = raw_call(SYS_read, handover->faults, address(&event), sizeof event, 0, 0)) == -EINTR)
        ;
    if (got == sizeof event)
        got = send_from_thread(handover->wire, __atomic_load_n(&handover->listener, __ATOMIC_ACQUIRE));
    if (got > 0)
        while ((got = raw_call(SYS_read, handover->wire, address(&byte), 1, 0, 0)) == -EINTR)
            ;
    /* nobody is notified, or the caller has gone: the program may not run */
    if (got != 1 || raw_call(SYS_ioctl, handover->faults, UFFDIO_ZEROPAGE, address(&page), 0, 0) < 0)
        for (;;)
            raw_call(SYS_exit_group, 127, 0, 0, 0, 0);
    for (;;)
        raw_call(SYS_exit, 0, 0, 0, 0, 0);
}

int prepare_handover(struct init *init, struct handover *handover)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
        .stack = (uint64_t)(uintptr_t)handover->stack,
        .stack_size = sizeof handover->stack,
    };

    handover->wire = init->wire;
    handover->page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (handover->page == MAP_FAILED)
        return explain(init, -errno, "mmap");
    struct uffdio_register range = {
        .range = {.start = (uint64_t)(uintptr_t)handover->page, .len = PAGE_BYTES}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    /* faults of this process's own, which nobody needs a right for */
    handover->faults = (int)checked(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
    if (handover->faults < 0)
        return explain(init, handover->faults, "userfaultfd, which passing a listener on takes");
    if (ioctl(handover->faults, (int)UFFDIO_API, &api) < 0 || ioctl(handover->faults, (int)UFFDIO_REGISTER, &range) < 0)
        return explain(init, -errno, "register with userfaultfd");
    long thread = clone_and_enter(&args, pass_listener, handover);
    return thread < 0 ? explain(init, (int)thread, "make a thread to pass the listener on") : 0;
}

void hand_over(struct handover *handover, int listener)
{
    __atomic_store_n(&handover->listener, listener, __ATOMIC_RELEASE);
    (void)*(volatile char *)handover->page;
}
