/* What tells a container of an engine from the next one of the same kind: names of hexadecimal digits, UUIDs and times in its configuration.
 * A plan says what they are, and nothing else depends on them; Python sees to that (runtimes/kept.py). */
#define _GNU_SOURCE
#include "kept.h"

#include <string.h>

#define DIGITS_MIN 12

static bool is_decimal(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hexadecimal(char c)
{
    return is_decimal(c) || (c >= 'a' && c <= 'f');
}

/* The length of `2026-11-26T18:14:41.063005471` at that place; 0: there is none. */
static uint64_t measure_time(const char *at, const char *end)
{
    static const char shape[] = "0000-00-00T00:00:00";
    uint64_t length = 0;

    for (; shape[length]; length++)
        if (at + length == end || (shape[length] == '0' ? !is_decimal(at[length]) : at[length] != shape[length]))
            return 0;
    uint64_t behind = length + 1;
    if (at + length == end || at[length] != '.')
        return length;
    while (at + behind < end && is_decimal(at[behind]))
        behind++;
    return behind == length + 1 ? length : behind;
}

/* The same of a name: digits, maybe in groups with a `-` between. A number has no letters: those are none. */
static uint64_t measure_name(const char *at, const char *end)
{
    uint64_t length = 0, digits = 0;
    bool has_letters = false;

    if (end - at < 2 || !is_hexadecimal(at[1]))
        return 0;
    for (; at + length < end && (is_hexadecimal(at[length]) || at[length] == '-'); length++) {
        digits += at[length] != '-';
        has_letters |= is_hexadecimal(at[length]) && !is_decimal(at[length]);
    }
    return has_letters && digits >= DIGITS_MIN ? length : 0;
}

/* The next value from *at on, and its length; NULL: there is none. A value begins where no other digit stands before. */
static char *find_value(char *at, const char *end, uint64_t *ret_length)
{
    for (bool is_begin = true; at < end; is_begin = !is_hexadecimal(*at++)) {
        uint64_t length = 0;
        if (is_begin && is_hexadecimal(*at))
            length = measure_time(at, end);
        if (!length && is_begin && is_hexadecimal(*at))
            length = measure_name(at, end);
        if (length && length < KEPT_VALUE_LIMIT) {
            *ret_length = length;
            return at;
        }
    }
    return NULL;
}

static uint32_t index_of(const struct kept_values *values, const char *text, uint64_t length)
{
    uint32_t i = 0;

    while (i < values->count && (values->values[i].size != length || memcmp(values->values[i].text, text, length)))
        i++;
    return i;
}

int take_values(char *text, uint64_t size, struct kept_values *values)
{
    char *end = text + size;
    uint64_t length;

    for (int place = KEPT_VALUE; place <= KEPT_NOW; place++)
        if (memchr(text, place, size))
            return -EINVAL;
    for (char *at = text; (at = find_value(at, end, &length)); at += length) {
        uint32_t i = index_of(values, at, length);
        if (i == KEPT_VALUES_MAX)
            continue;
        if (i == values->count) {
            values->values[i].size = (uint32_t)length;
            memcpy(values->values[i].text, at, length);
            values->count++;
        }
        /* its shape is what others have to have too */
        at[0] = KEPT_VALUE;
        at[1] = (char)(i + 1);
        for (uint64_t j = 2; j < length; j++)
            if (is_hexadecimal(at[j]))
                at[j] = '0';
    }
    return 0;
}

void exchange_values(char *text, uint64_t size, const struct kept_values *from, const struct kept_values *to)
{
    uint64_t length;

    for (char *at = text; (at = find_value(at, text + size, &length)); at += length) {
        uint32_t i = index_of(from, at, length);
        if (i < from->count)
            memcpy(at, to->values[i].text, length);
    }
}
