/* What the caller and an init say to each other: on the wire while it sets up, and on the start socket. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "host.h"

/* then somebody else may have a say: whoever sends may never stop */
#define MESSAGES_AT_ONCE 64

/* The rest is closed: whoever sends may send more than is wanted, and the padding has room for it. */
static void take_first_fd(struct cmsghdr *item, int *ret_fd)
{
    const unsigned char *data = CMSG_DATA(item), *end = (const unsigned char *)item + item->cmsg_len;
    int fd;

    for (; data + sizeof fd <= end; data += sizeof fd) {
        memcpy(&fd, data, sizeof fd);
        if (*ret_fd < 0)
            *ret_fd = fd;
        else
            close(fd);
    }
}

int receive_message(int socket, struct message *ret_message, int *ret_fd)
{
    struct iovec part = {.iov_base = ret_message, .iov_len = sizeof *ret_message};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr packet = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t length = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct ucred sender = {0};

    /* told once, and before what was sent, if the other side has left something unread */
    if (length < 0 && errno == ECONNRESET)
        length = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    *ret_fd = -1;
    if (length < 0)
        return errno == ECONNRESET ? 0 : -errno;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&packet); item; item = CMSG_NXTHDR(&packet, item)) {
        if (item->cmsg_level != SOL_SOCKET)
            continue;
        if (item->cmsg_type == SCM_RIGHTS)
            take_first_fd(item, ret_fd);
        else if (item->cmsg_type == SCM_CREDENTIALS && item->cmsg_len == CMSG_LEN(sizeof sender))
            memcpy(&sender, CMSG_DATA(item), sizeof sender);
    }
    /* an end of file carries nothing, but a message without data may, and looks the same */
    if (length != sizeof *ret_message) {
        close_fd(ret_fd);
        *ret_fd = -1;
        return length ? -EBADMSG : 0;
    }
    ret_message->sender = sender.pid;
    ret_message->detail[MESSAGE_DETAIL - 1] = 0;
    return 1;
}

int release_process(int wire)
{
    return send(wire, "", 1, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void note_failure(const struct message *message, struct conversation *conversation)
{
    conversation->operation = message->operation;
    conversation->kind = message->kind;
    conversation->error = message->error;
    conversation->hook = message->hook;
    memcpy(conversation->detail, message->detail, MESSAGE_DETAIL);
}

int listen_to_init(int wire, int succession, struct conversation *conversation)
{
    struct message message;
    int fd, got = 1;

    for (int count = 0; count < MESSAGES_AT_ONCE && (got = receive_message(wire, &message, &fd)) == 1; count++) {
        AUTO_FD carried = fd;
        if (message.type < 32)
            conversation->said |= 1U << message.type;
        if (message.type == MESSAGE_FAILURE)
            note_failure(&message, conversation);
        else if (message.type == MESSAGE_CONSOLE && conversation->console < 0)
            conversation->console = take_fd(&carried);
        else if (message.type == MESSAGE_LISTENER && conversation->expects_listener && conversation->listener < 0)
            conversation->listener = take_fd(&carried);
        else if (message.type == MESSAGE_PROCESS && succession != SUCCESSION_NONE && !conversation->has_successor
                 && message.sender == conversation->pid && carried >= 0) {
            conversation->has_successor = 1;
            conversation->pid = message.pid;
            int first = conversation->pidfd;
            conversation->pidfd = take_fd(&carried);
            struct exit_report report;
            /* it ends at once, or was killed */
            while (reap_pidfd(first, &report) == -EINTR)
                ;
            close(first);
        }
    }
    return got == 0 ? 1 : got == 1 || got == -EAGAIN ? 0 : got;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static bool has_listener(const struct conversation *conversation)
{
    return conversation->expects_listener && conversation->listener >= 0;
}

int attend_init(int wire, int succession, int timeout_ms, struct conversation *conversation)
{
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;

    for (;;) {
        bool expects = succession >= SUCCESSION_RELEASED && !conversation->has_successor;
        int64_t left = timeout_ms < 0 ? -1 : deadline - now_ms();
        /* what comes before the end need not wake anybody, unless somebody waits for an answer to it */
        bool has_answer = expects || conversation->awaited || conversation->expects_listener;
        struct pollfd entry = {.fd = wire, .events = has_answer ? POLLIN : 0};
        int got = (int)checked(poll(&entry, 1, left < 0 && timeout_ms >= 0 ? 0 : (int)left));
        if (got <= 0)
            return got;
        int closed = listen_to_init(wire, succession, conversation);
        if (closed < 0)
            return closed;
        if (expects && conversation->has_successor)
            release_process(wire);
        if (closed || conversation->said & conversation->awaited || has_listener(conversation)
            || (succession == SUCCESSION_AWAITED && conversation->has_successor))
            return 1;
    }
}

int start_address(const char *path, const char *name, int *ret_directory, struct sockaddr_un *ret_address)
{
    size_t limit = sizeof ret_address->sun_path;

    ret_address->sun_family = AF_UNIX;
    if (snprintf(ret_address->sun_path, limit, "%s/%s", path, name) < (int)limit)
        return 0;
    int directory = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0, 0);
    if (directory < 0)
        return directory;
    *ret_directory = directory;
    int length = snprintf(ret_address->sun_path, limit, "/proc/self/fd/%d/%s", directory, name);
    return length < (int)limit ? 0 : -ENAMETOOLONG;
}

static int connect_start(const struct sockaddr_un *address)
{
    AUTO_FD connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (connection < 0 || connect(connection, (const struct sockaddr *)address, sizeof *address) < 0)
        return -errno;
    return take_fd(&connection);
}

int start_init(const char *directory, const char *name, int timeout_ms, int *ret_connection, struct conversation *conversation)
{
    struct sockaddr_un address = {0};
    AUTO_FD held = -1;
    int error = start_address(directory, name, &held, &address);

    if (error)
        return error;
    AUTO_FD connection = *ret_connection < 0 ? connect_start(&address) : take_fd(ret_connection);
    if (connection < 0)
        return connection;
    int got = attend_init(connection, SUCCESSION_NONE, timeout_ms, conversation);
    if (got == -EINTR || got == 0 || (got == 1 && has_listener(conversation)))
        *ret_connection = take_fd(&connection);
    else if (got == 1 && !(conversation->said & 1U << MESSAGE_FAILURE) && unlink(address.sun_path) < 0 && errno != ENOENT)
        return -errno;
    return got;
}
