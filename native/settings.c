/* Files of cgroups: written, and read again, because the kernel takes some values that then do not hold. */
#define _GNU_SOURCE
#include "host.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BLANKS " \t"
#define NUMBERS_MAX 8192    /* CPUs and memory nodes that Linux can have */
#define FILE_MAX 8192       /* of one as much is read again */

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

static size_t count_words(struct span line)
{
    const char *at = line.begin, *end = line.begin + line.size;
    size_t count = 0;

    while (next_word(&at, end).size)
        count++;
    return count;
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

/* Whether some line says what is wanted; otherwise the line that says something else of the same, or the first one if there is none. */
static bool has_line(const char *text, const char *wanted, enum file_check check, struct span *ret_line)
{
    struct span all = {.begin = wanted, .size = strlen(wanted)};
    bool is_found = false;

    *ret_line = (struct span){.begin = text, .size = strcspn(text, "\n")};
    while (*text) {
        struct span line = {.begin = text, .size = strcspn(text, "\n")};
        bool has_all;
        if (is_about(line, wanted, &has_all) && !is_found) {
            is_found = true;
            *ret_line = line;
        }
        if (has_all && (check != CHECK_LINES_ALONE || count_words(line) == count_words(all)))
            return true;
        text += line.size + (text[line.size] == '\n');
    }
    return check == CHECK_NOT_OTHERWISE && !is_found;
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

/* before: what the file had before it was written, for CHECK_CHANGED */
static int check_file(struct host *host, const struct operation *op, int fd, uint32_t first, const char *before)
{
    enum file_check check = op->number[2];
    const char *wanted;
    char text[FILE_MAX];
    ssize_t length = read_again(fd, text, sizeof text);

    if (length < 0)
        return explain(host, (int)length, "read it again", NULL);
    for (uint32_t i = first; (wanted = plan_item(host->plan, op, 1, i)); i++) {
        struct span line = {.begin = text, .size = strcspn(text, "\n")};
        if (check == CHECK_WITHIN || check == CHECK_WITHIN_EFFECTIVE ? is_within(text, wanted) : has_line(text, wanted, check, &line))
            continue;
        if (check == CHECK_CHANGED && strcmp(text, before) != 0)
            continue;
        snprintf(host->detail, MESSAGE_DETAIL, "'%.80s' was wanted, but '%.*s' is what it has", wanted,
                 line.size < 80 ? (int)line.size : 80, line.begin);
        return -NOT_HELD;
    }
    return 0;
}

/* The file to be written, and to be read again where that is asked for. */
static int open_setting(const char *path, enum file_check *check)
{
    bool is_read_again = *check != CHECK_NOTHING && *check != CHECK_WITHIN_EFFECTIVE;
    int fd = open_at(AT_FDCWD, path, is_read_again ? O_RDWR : O_WRONLY, 0, 0);

    if (fd != -EACCES || *check != CHECK_CHANGED)
        return fd;
    *check = CHECK_NOTHING;
    return open_at(AT_FDCWD, path, O_WRONLY, 0, 0);
}

/* numbers: how many of the texts at the beginning are names of files of which none may be there for this to be done, how many at the end
 * are what the file has to say then; enum file_check; 1 if there need not be such a file */
int write_file(struct host *host, const struct operation *op)
{
    const char *path = plan_text(host->plan, op, 0), *value;
    enum file_check check = op->number[2];
    char before[FILE_MAX];
    uint32_t count = 0, i = 0;

    before[0] = 0;
    while (plan_item(host->plan, op, 1, count))
        count++;
    if (op->number[0] > count || op->number[1] > count - op->number[0])
        return explain(host, -EBADMSG, "no such texts", NULL);
    for (; i < op->number[0]; i++)
        if (faccessat(AT_FDCWD, plan_item(host->plan, op, 1, i), F_OK, 0) == 0)
            return 0;
    AUTO_FD fd = open_setting(path, &check);
    if (fd == -ENOENT && op->number[3])
        return 0;
    if (fd < 0)
        return explain(host, fd, fd == -ENOENT ? "the cgroup has no such file, or its controller is not there" : "open", NULL);
    if (check == CHECK_CHANGED && read_again(fd, before, sizeof before) < 0)
        check = CHECK_NOTHING;
    for (; i < count - op->number[1]; i++) {
        value = plan_item(host->plan, op, 1, i);
        if (write(fd, value, strlen(value)) < 0)
            return explain(host, -errno, "write", value);
    }
    if (check == CHECK_NOTHING)
        return 0;
    if (check != CHECK_WITHIN_EFFECTIVE)
        return check_file(host, op, fd, i, before);
    char effective[4096];
    if (snprintf(effective, sizeof effective, "%s.effective", path) >= (int)sizeof effective)
        return explain(host, -ENAMETOOLONG, "read", path);
    AUTO_FD other = open_at(AT_FDCWD, effective, O_RDONLY, 0, 0);
    return other < 0 ? explain(host, other, "open", effective) : check_file(host, op, other, i, before);
}
