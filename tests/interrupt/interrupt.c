/* Kill a program at a moment that can be chosen: interrupt CALL COUNT PROGRAM ARGUMENT...
 * From its first system call of the name CALL on, or from when it stops itself by SIGSTOP if CALL is `stop`, the beginning and the end of each
 * call are moments, of which this is the one COUNT.
 * The exit code is 0 if it was killed, 1 if it has ended before. Processes that it makes are let alone. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_CALL (SIGTRAP | 0x80)

static const struct {
    const char *name;
    unsigned long number;
} calls[] = {
#ifdef SYS_mkdir
    {"mkdir", SYS_mkdir},
#endif
    {"mkdir", SYS_mkdirat}, {"connect", SYS_connect}, {"clone3", SYS_clone3}, {"flock", SYS_flock},
};

static bool is_named(const char *name, unsigned long number)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].number == number && !strcmp(calls[i].name, name))
            return true;
    return false;
}

static bool begins_call(pid_t pid, const char *name)
{
    struct __ptrace_syscall_info info;

    return ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0
        && info.op == PTRACE_SYSCALL_INFO_ENTRY && is_named(name, info.entry.nr);
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 2;
    long left = atol(arguments[2]);
    /* a program of many calls is let alone until it says that it begins */
    bool awaits_stop = !strcmp(arguments[1], "stop"), counts = false;
    int status, passed_on = 0;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(arguments[3], arguments + 3);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (;;) {
        ptrace(awaits_stop && !counts ? PTRACE_CONT : PTRACE_SYSCALL, pid, NULL, passed_on);
        if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
            return 1;
        passed_on = WSTOPSIG(status);
        if (passed_on != AT_CALL) {
            /* one is its own, of an execution */
            if (passed_on == SIGTRAP || (awaits_stop && passed_on == SIGSTOP)) {
                counts = counts || passed_on == SIGSTOP;
                passed_on = 0;
            }
            continue;
        }
        passed_on = 0;
        counts = counts || begins_call(pid, arguments[1]);
        if (counts && left-- == 0)
            break;
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return 0;
}
