/* Signals that a command passes on to the process that it waits for, in Python and in the front end. The mask is the kernel's: the C libraries
 * keep signals of it for themselves, musl also SIGRTMIN of glibc. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/signalfd.h>

#include "plan.h"
#include "syscalls.h"

#define BIT(number) (1ULL << ((number) - 1))

/* What is about the command, not for it: its children, its place at a terminal. SIGURG runc keeps too. 32 and 33 are for a C library's
 * threads. */
#define KEPT (BIT(SIGKILL) | BIT(SIGSTOP) | BIT(SIGCHLD) | BIT(SIGTTIN) | BIT(SIGTTOU) | BIT(SIGURG) | BIT(32) | BIT(33))

int catch_signals(uint64_t *ret_before)
{
    const uint64_t caught = ~KEPT;
    uint64_t before;

    if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, &caught, &before, sizeof caught) < 0)
        return -errno;
    int signals = (int)checked(syscall(SYS_signalfd4, -1, &caught, sizeof caught, SFD_CLOEXEC | SFD_NONBLOCK));
    if (signals < 0)
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    else
        *ret_before = before;
    return signals;
}

int take_signal(int signals)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof info) == sizeof info)
        /* the SIGPIPE of what this one writes itself is about the command, too */
        if (info.ssi_signo != SIGPIPE || info.ssi_pid != (uint32_t)getpid())
            return (int)info.ssi_signo;
    return 0;
}

void release_signals(int signals, uint64_t before)
{
    close(signals);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}
