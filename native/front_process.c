/* Making a process of a kept plan, and following it. */
#define _GNU_SOURCE
#include "front_process.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define WARNINGS_LIMIT 65536

/* Which one stands there; NULL: none that the command line has. */
static const struct kept_value *value_of(const struct kept *kept, uint32_t number)
{
    return number < kept->values.count ? &kept->values.values[number] : NULL;
}

int fill(const struct kept *kept, const char *text, uint32_t size, const struct places *places, char *ret_text, uint64_t limit)
{
    uint64_t length = 0;

    for (uint32_t i = 0; i < size; i++) {
        const struct kept_value *value;
        const char *from = &text[i];
        size_t count = 1;
        switch (text[i]) {
        case KEPT_VALUE:
            value = ++i < size ? value_of(kept, (unsigned char)text[i] - 1U) : NULL;
            if (!value)
                return HAND_OVER;
            from = value->text;
            count = value->size;
            break;
        case KEPT_PID:
            count = strlen(from = places->pid);
            break;
        case KEPT_START_TIME:
            count = strlen(from = places->start_time);
            break;
        case KEPT_NOW:
            count = strlen(from = places->now);
            break;
        default:
            break;
        }
        if (limit - length <= count)
            return HAND_OVER;
        memcpy(ret_text + length, from, count);
        length += count;
    }
    ret_text[length] = 0;
    return (int)length;
}

void format_now(char *ret_text, size_t size)
{
    struct timespec now;
    struct tm parts;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(ret_text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret_text + length, size - length, ".%06ldZ", now.tv_nsec < 1000 ? 1 : now.tv_nsec / 1000);
}

void tell_warnings(const struct line *line, const struct kept *kept)
{
    char text[WARNINGS_LIMIT];
    struct places places = {0};
    AUTO_FD log = line->log ? open(line->log, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;

    format_now(places.now, sizeof places.now);
    int length = line->logs_json ? fill(kept, kept->json, kept->head->json_size, &places, text, sizeof text)
                                 : fill(kept, kept->text, kept->head->text_size, &places, text, sizeof text);
    if (length > 0 && write(line->log ? log : STDERR_FILENO, text, (size_t)length) < 0)
        return;  /* as a log that is full keeps nothing from being done */
}

int open_pid_file(const char *path, struct pid_file *ret_file)
{
    *ret_file = (struct pid_file){.path = path, .fd = -1};
    if (!path)
        return 0;
    if (snprintf(ret_file->beside, sizeof ret_file->beside, "%s.%d.new", path, getpid()) >= (int)sizeof ret_file->beside)
        return HAND_OVER;
    ret_file->fd = open(ret_file->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return ret_file->fd < 0 ? HAND_OVER : 0;
}

int write_pid_file(struct pid_file *file, int pid)
{
    if (!file->path)
        return 0;
    if (dprintf(file->fd, "%d", pid) < 0 || rename(file->beside, file->path) < 0)
        return -errno;
    close_fd(&file->fd);
    file->fd = -1;
    return 0;
}

void discard_pid_file(struct pid_file *file)
{
    if (file->fd < 0)
        return;
    close_fd(&file->fd);
    file->fd = -1;
    unlink(file->beside);
}

int spawn_kept(struct kept *kept, const int *descriptors, int count, struct spawn_result *ret_result)
{
    static const int stdio[] = {0, 1, 2};
    const struct kept_plan *head = kept->head;
    const struct plan_header *header = (const void *)kept->plan;
    struct kept_hole hole;

    if (head->plan_size < sizeof *header || header->size > head->plan_size || head->holes_size % sizeof hole)
        return HAND_OVER;
    /* as long as that of the plan's own container, or the key would be another one */
    for (uint32_t at = 0; at < head->holes_size; at += sizeof hole) {
        memcpy(&hole, kept->holes + at, sizeof hole);
        const struct kept_value *value = value_of(kept, hole.value);
        if (!value || hole.offset > header->size || header->size - hole.offset < value->size)
            return HAND_OVER;
        memcpy(kept->plan + hole.offset, value->text, value->size);
    }
    AUTO_FD init = open_init();
    if (init < 0)
        return HAND_OVER;
    return spawn_process(kept->plan, header->size, head->clone_flags, init, head->cgroup_slot, stdio, descriptors, count, SETUP_TIMEOUT_MS,
                         ret_result) ? HAND_OVER : 0;
}

static void end_process(int pidfd)
{
    struct exit_report report;

    signal_pidfd(pidfd, SIGKILL);
    while (reap_pidfd(pidfd, &report) == -EINTR)
        ;
}

int follow_init(const struct kept *kept, struct spawn_result *spawned, uint32_t until)
{
    struct conversation heard = {.pid = spawned->pid, .pidfd = spawned->pidfd, .console = -1, .listener = -1};
    int succession = (int)kept->head->succession;
    int got = attend_init(spawned->wire, succession, SETUP_TIMEOUT_MS, &heard);

    if (heard.console >= 0)
        close(heard.console);  /* of one that can be traced by the container, and that nobody asked for */
    bool is_done = got == 1 && heard.said & 1U << until && !(heard.said & 1U << MESSAGE_FAILURE);
    if (!is_done) {
        end_process(heard.pidfd);
        /* what the first process said before it was killed tells of its successor, if there is one by now */
        if (succession != SUCCESSION_NONE && !heard.has_successor) {
            listen_to_init(spawned->wire, SUCCESSION_BELIEVED, &heard);
            if (heard.has_successor)
                end_process(heard.pidfd);
        }
        close(heard.pidfd);
    }
    close(spawned->wire);
    spawned->wire = -1;
    spawned->pid = heard.pid;
    spawned->pidfd = is_done ? heard.pidfd : -1;
    return is_done ? 0 : HAND_OVER;
}

int wait_for(int pidfd, int signals)
{
    struct pollfd entries[] = {{.fd = pidfd, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct exit_report report = {.code = CLD_EXITED, .status = 1};

    while (!entries[0].revents) {
        if (poll(entries, 2, -1) < 0 && errno != EINTR)
            break;
        for (int number; entries[1].revents && (number = take_signal(signals));)
            if (number != SIGWINCH)  /* the size of a terminal that the process does not have */
                signal_pidfd(pidfd, number);
    }
    while (reap_pidfd(pidfd, &report) == -EINTR)
        ;
    return report.code == CLD_EXITED ? report.status : 128 + report.status;
}
