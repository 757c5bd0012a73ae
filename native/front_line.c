/* Parsing the command line, and signals' names. */
#define _GNU_SOURCE
#include "front_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "front_options.h"

#define COUNT_OF(table) (int)(sizeof(table) / sizeof *(table))

static const struct option_row *find_option(const char *command, const char *spelling, size_t length)
{
    for (int i = 0; i < COUNT_OF(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        if (!strcmp(row->command, command) && !strncmp(row->spelling, spelling, length) && !row->spelling[length])
            return row;
    }
    return NULL;
}

/* One option from *at on, which is moved behind it: 0 or -EINVAL. */
static int take_option(const char *command, char ***at, struct given_option *ret_option)
{
    const char *text = *(*at)++, *equals = strncmp(text, "--", 2) ? NULL : strchr(text, '=');
    const struct option_row *row = find_option(command, text, equals ? (size_t)(equals - text) : strlen(text));

    if (!row || (equals && !row->takes_value))
        return -EINVAL;
    const char *value = !row->takes_value ? "" : equals ? equals + 1 : *(*at)++;
    /* argparse takes what looks like an option for one */
    if (!value || (row->takes_value && !equals && value[0] == '-'))
        return -EINVAL;
    *ret_option = (struct given_option){.name = row->name, .value = value};
    return 0;
}

static int take_global(const struct given_option *option, struct line *line)
{
    if (!strcmp(option->name, "root"))
        line->root = option->value;
    else if (!strcmp(option->name, "log"))
        line->log = option->value;
    else if (!strcmp(option->name, "systemd_cgroup"))
        line->has_other_cgroups = true;
    else if (!strcmp(option->name, "cgroup_manager") && is_among(option->value, "cgroupfs systemd disabled"))
        line->has_other_cgroups |= strcmp(option->value, "cgroupfs") != 0;
    else if (!strcmp(option->name, "log_format") && (!strcmp(option->value, "text") || !strcmp(option->value, "json")))
        line->logs_json = *option->value == 'j';
    else
        return -EINVAL;
    return 0;
}

int parse_line(char **arguments, struct line *ret_line)
{
    struct line line = {.root = DEFAULT_ROOT};
    struct given_option option;
    int error = 0;

    while (!error && *arguments && **arguments == '-') {
        error = take_option("", &arguments, &option);
        if (!error)
            error = take_global(&option, &line);
    }
    if (error || !*arguments)
        return -EINVAL;
    line.command = *arguments++;
    while (*arguments && **arguments == '-') {
        if (line.option_count == LINE_OPTIONS_MAX || take_option(line.command, &arguments, &line.options[line.option_count++]))
            return -EINVAL;
    }
    if (!*arguments)
        return -EINVAL;
    line.id = *arguments++;
    line.rest = arguments;
    /* options that stand behind the id, and what argparse makes of them, are Python's; a program has its own behind its name */
    if (*arguments && **arguments == '-')
        return -EINVAL;
    *ret_line = line;
    return 0;
}

const char *option_of(const struct line *line, const char *name)
{
    for (int i = line->option_count - 1; i >= 0; i--)
        if (!strcmp(line->options[i].name, name))
            return line->options[i].value;
    return NULL;
}

bool is_among(const char *name, const char *names)
{
    size_t length = strlen(name);
    const char *at = names;

    while ((at = strstr(at, name)) && ((at != names && at[-1] != ' ') || (at[length] && at[length] != ' ')))
        at += length;
    return at;
}

bool has_only(const struct line *line, const char *names)
{
    for (int i = 0; i < line->option_count; i++)
        if (!is_among(line->options[i].name, names))
            return false;
    return true;
}

int signal_of(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    if (*text && !text[digits])
        return digits < 4 && atoi(text) < SIGNAL_NUMBERS ? atoi(text) : -EINVAL;
    if (!strncasecmp(text, "SIG", 3))
        text += 3;
    for (int i = 0; i < COUNT_OF(signal_rows); i++)
        if (!strcasecmp(signal_rows[i].name + 3, text))
            return signal_rows[i].number;
    return -EINVAL;
}
