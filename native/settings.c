/* Files of cgroups: written, and read again, because the kernel takes some values that then do not hold. */
#define _GNU_SOURCE
#include "host.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BLANKS " \t"
#define NUMBERS_MAX 8192    /* CPUs and memory nodes that Linux can have */

struct span {
    const char *begin;
    size_t size;
};

/* The next word of a line, which is cut off from it; one of no size at its end. */
static struct span next_word(const char **line, const char *end)
{
    while (*line < end && strchr(BLANKS, **line))
        ++*line;
    struct span word = {.begin = *line};
    while (*line < end && !strchr(BLANKS, **line))
        ++*line;
    word.size = (size_t)(*line - word.begin);
    return word;
}

static bool is_same(struct span one, struct span other)
{
    return one.size == other.size && memcmp(one.begin, other.begin, one.size) == 0;
}

static bool has_word(struct span line, struct span word)
{
    const char *at = line.begin, *end = line.begin + line.size;

    for (;;) {
        struct span found = next_word(&at, end);
        if (!found.size)
            return false;
        if (is_same(found, word))
            return true;
    }
}

/* Whether a line begins with the same word, and whether it has the others too. */
static bool is_about(struct span line, const char *wanted, bool *ret_has_all)
{
    const char *at = line.begin, *end = wanted + strlen(wanted);
    struct span key = next_word(&wanted, end);
    bool is_key = is_same(next_word(&at, line.begin + line.size), key);

    *ret_has_all = is_key;
    for (struct span word; *ret_has_all && (word = next_word(&wanted, end)).size;)
        *ret_has_all = has_word(line, word);
    return is_key;
}

/* Whether some line says what is wanted; otherwise the line that says something else of the same, or the first one. */
static bool has_line(const char *text, const char *wanted, struct span *ret_line)
{
    bool is_found = false;

    *ret_line = (struct span){.begin = text, .size = strcspn(text, "\n")};
    while (*text) {
        struct span line = {.begin = text, .size = strcspn(text, "\n")};
        bool has_all;
        if (is_about(line, wanted, &has_all) && !is_found) {
            is_found = true;
            *ret_line = line;
        }
        if (has_all)
            return true;
        text += line.size + (text[line.size] == '\n');
    }
    return false;
}

/* The numbers of a list such as `0-3,7`; false for what is no such list, or an empty one. */
static bool read_numbers(const char *text, uint64_t *ret_bits)
{
    unsigned int first, last;
    int size;

    memset(ret_bits, 0, NUMBERS_MAX / 8);
    for (;; text++) {
        if (sscanf(text, "%u%n", &first, &size) != 1)
            return false;
        text += size;
        last = first;
        if (*text == '-') {
            if (sscanf(++text, "%u%n", &last, &size) != 1)
                return false;
            text += size;
        }
        for (unsigned int i = first; i <= last && i < NUMBERS_MAX; i++)
            ret_bits[i / 64] |= UINT64_C(1) << i % 64;
        if (*text != ',')
            return !*text || *text == '\n';
    }
}

static bool is_within(const char *text, const char *wanted)
{
    uint64_t found[NUMBERS_MAX / 64], allowed[NUMBERS_MAX / 64];

    if (!read_numbers(text, found) || !read_numbers(wanted, allowed))
        return false;
    for (size_t i = 0; i < NUMBERS_MAX / 64; i++)
        if (found[i] & ~allowed[i])
            return false;
    return true;
}

static ssize_t read_again(int fd, char *ret_text, size_t size)
{
    ssize_t got;
    size_t length = 0;

    /* the kernel ends a read where a line would not fit */
    while (length < size - 1 && (got = pread(fd, ret_text + length, size - 1 - length, (off_t)length)) != 0) {
        if (got < 0)
            return -errno;
        length += (size_t)got;
    }
    ret_text[length] = 0;
    return (ssize_t)length;
}

static int check_file(struct host *host, const struct operation *op, int fd, uint32_t first)
{
    const char *wanted;
    char text[8192];
    ssize_t length = read_again(fd, text, sizeof text);

    if (length < 0)
        return explain(host, (int)length, "read it again", NULL);
    for (uint32_t i = first; (wanted = plan_item(host->plan, op, 1, i)); i++) {
        struct span line = {.begin = text, .size = strcspn(text, "\n")};
        if (op->number[2] == CHECK_LINES ? has_line(text, wanted, &line) : is_within(text, wanted))
            continue;
        snprintf(host->detail, MESSAGE_DETAIL, "'%.80s' was wanted, but '%.*s' is what it has", wanted,
                 line.size < 80 ? (int)line.size : 80, line.begin);
        return -NOT_HELD;
    }
    return 0;
}

/* numbers: how many of the texts at the beginning are names of files of which none may be there for this to be done, how many at the end
 * are what the file has to say then; enum file_check; 1 if there need not be such a file */
int write_file(struct host *host, const struct operation *op)
{
    const char *path = plan_text(host->plan, op, 0), *value;
    uint32_t count = 0, i = 0;

    while (plan_item(host->plan, op, 1, count))
        count++;
    if (op->number[0] > count || op->number[1] > count - op->number[0])
        return explain(host, -EBADMSG, "no such texts", NULL);
    for (; i < op->number[0]; i++)
        if (faccessat(AT_FDCWD, plan_item(host->plan, op, 1, i), F_OK, 0) == 0)
            return 0;
    AUTO_FD fd = open_at(AT_FDCWD, path, op->number[2] == CHECK_LINES || op->number[2] == CHECK_WITHIN ? O_RDWR : O_WRONLY, 0, 0);
    if (fd == -ENOENT && op->number[3])
        return 0;
    if (fd < 0)
        return explain(host, fd, fd == -ENOENT ? "the cgroup has no such file, or its controller is not there" : "open", NULL);
    for (; i < count - op->number[1]; i++) {
        value = plan_item(host->plan, op, 1, i);
        if (write(fd, value, strlen(value)) < 0)
            return explain(host, -errno, "write", value);
    }
    if (op->number[2] == CHECK_NOTHING)
        return 0;
    if (op->number[2] != CHECK_WITHIN_EFFECTIVE)
        return check_file(host, op, fd, i);
    char effective[4096];
    if (snprintf(effective, sizeof effective, "%s.effective", path) >= (int)sizeof effective)
        return explain(host, -ENAMETOOLONG, "read", path);
    AUTO_FD other = open_at(AT_FDCWD, effective, O_RDONLY, 0, 0);
    return other < 0 ? explain(host, other, "open", effective) : check_file(host, op, other, i);
}
