/* Netlink sockets of network namespaces that the caller is not in. */
#define _GNU_SOURCE
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "plan.h"
#include "syscalls.h"

struct opening {
    int pidfd;
    int socket;             /* or -errno */
};

/* In a thread of its own, which ends: a network namespace is a thread's, and a socket keeps the one that it was made in. */
static void *open_in_namespace(void *argument)
{
    struct opening *opening = argument;

    opening->socket = setns(opening->pidfd, CLONE_NEWNET) < 0
        ? -errno : (int)checked(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    return NULL;
}

int open_netlink(int pidfd)
{
    struct opening opening = {.pidfd = pidfd};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, open_in_namespace, &opening);

    if (error)
        return -error;
    pthread_join(thread, NULL);
    return opening.socket;
}
