/* Reading a container's record: the text `front` in state.json, which Python has written for this. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front.h"

static const char field[] = ",\"front\":\"";
/* what the state has instead of pid and status */
static const char not_known[] = "\n  \"pid\": 0,\n  \"status\": \"\"";

/* Where the last field begins: no later text is like it, since quotes within texts are escaped. */
static char *find_front(char *data, uint64_t size)
{
    char *found = NULL;

    for (char *at = data; (at = memmem(at, size - (uint64_t)(at - data), field, sizeof field - 1)); at += sizeof field - 1)
        found = at;
    return found ? found + sizeof field - 1 : NULL;
}

/* A text of JSON without its quotes, decoded in place as far as Python writes it: 0 or HAND_OVER. */
static int decode_text(char *text, const char *end)
{
    char *to = text;

    for (const char *from = text; from < end; from++) {
        char character = *from;
        if (character == '"' || (unsigned char)character < ' ')
            return HAND_OVER;
        if (character == '\\') {
            const char *known = from + 1 < end ? strchr("\"\"\\\\n\nt\tr\rb\bf\f", from[1]) : NULL;
            /* a letter, and behind it what it stands for; other escapes have no place in paths and documents */
            if (!known || !*known)
                return HAND_OVER;
            character = known[1];
            from++;
        }
        *to++ = character;
    }
    *to = 0;
    return 0;
}

/* The line at *at, which is moved behind it; NULL: there is none. */
static char *take_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');

    if (!end)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

static int parse_lines(struct record *record, char *text, const char *id)
{
    char may[8];
    int behind = 0;
    char *first = take_line(&text);

    if (!first || sscanf(first, "1 %7s %d %" SCNd64 " %d%n", may, &record->pid, &record->start_time, &record->cgroup_count, &behind) != 4
        || first[behind] || record->pid <= 0 || record->cgroup_count < 0)
        return HAND_OVER;
    const char *own_id = take_line(&text);
    if (!own_id || strcmp(own_id, id))
        return HAND_OVER;
    record->may_start = strchr(may, 's');
    record->may_delete = strchr(may, 'd');
    record->may_execute = strchr(may, 'e');
    record->shares_pid_namespace = strchr(may, 'p');
    record->bundle = take_line(&text);
    record->freezer = record->bundle ? take_line(&text) : NULL;
    if (!record->freezer)
        return HAND_OVER;
    if (!*record->freezer)
        record->freezer = NULL;
    record->cgroups = text;
    for (int i = 0; i < record->cgroup_count; i++)
        if (!take_line(&text))
            return HAND_OVER;
    /* the first one: no text of JSON holds the end of a line */
    char *unknown = strstr(text, not_known);
    if (!unknown)
        return HAND_OVER;
    *unknown = 0;
    record->before_pid = text;
    record->after_status = unknown + sizeof not_known - 1;
    return 0;
}

int parse_record(struct record *record, uint64_t size, const char *id)
{
    char *data = record->data;

    if (size < sizeof field + 2 || size > sizeof record->data - 1 || data[size - 2] != '"' || data[size - 1] != '}')
        return HAND_OVER;
    char *text = find_front(data, size);
    if (!text || decode_text(text, data + size - 2))
        return HAND_OVER;
    return parse_lines(record, text, id);
}

int name_in_directory(const struct front *front, const char *name, char *ret_path, uint64_t size)
{
    return snprintf(ret_path, size, "%s/%s", front->directory, name) < (int)size ? 0 : HAND_OVER;
}

int load_record(struct front *front)
{
    char path[PATH_MAX];

    if (name_in_directory(front, "state.json", path, sizeof path))
        return HAND_OVER;
    int64_t length = read_file(path, front->record.data, sizeof front->record.data);
    return length < 0 ? HAND_OVER : parse_record(&front->record, (uint64_t)length, front->id);
}

int status_of(struct front *front)
{
    const struct record *record = &front->record;
    int status = derive_status(front->directory, START_SOCKET, record->pid, record->start_time, record->freezer);

    return status < 0 ? HAND_OVER : status;
}

int open_container_init(const struct record *record)
{
    AUTO_FD pidfd = open_pidfd(record->pid);

    if (pidfd < 0)
        return pidfd;
    /* asked when the pidfd is there, since a pid is given out again */
    int alive = is_alive(record->pid, record->start_time);
    return alive > 0 ? take_fd(&pidfd) : alive ? alive : -ESRCH;
}
