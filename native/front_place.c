/* Where a command line's container is. */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "front.h"
#include "kept.h"

#define FIRST_USER_NAMESPACE 0xEFFFFFFD  /* PROC_USER_INIT_INO of the kernel */

/* Whether the default root is the caller's, who is no user without privileges. */
static bool is_privileged(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    struct stat st;

    return stat("/proc/self/ns/user", &st) == 0 && st.st_ino == FIRST_USER_NAMESPACE && syscall(SYS_capget, &header, data) == 0
           && data[0].permitted & 1U << CAP_SYS_ADMIN;
}

/* An absolute path without anything that Python would take out of it. */
static bool is_plain_path(const char *path)
{
    size_t length = strlen(path);

    return path[0] == '/' && path[1] && path[length - 1] != '/' && !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../")
           && (length < 2 || strcmp(path + length - 2, "/.")) && (length < 3 || strcmp(path + length - 3, "/.."));
}

static bool is_plain_id(const char *id)
{
    return id[0] != '.' && id[0] && strlen(id) <= NAME_MAX
           && !id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")];
}

/* In a sticky directory nobody else can put anything in the place of what is root's or one's own. */
static bool is_kept_by_owner(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid())
           && (!(st.st_mode & (S_IWGRP | S_IWOTH)) || (S_ISDIR(st.st_mode) && st.st_mode & S_ISVTX));
}

bool is_nobody_elses(const char *path)
{
    char directory[PATH_MAX];
    size_t length = strlen(path);

    if (length >= sizeof directory)
        return false;
    memcpy(directory, path, length + 1);
    while (is_kept_by_owner(directory)) {
        char *slash = strrchr(directory, '/');
        if (!slash || !strcmp(directory, "/"))
            return slash;
        slash[slash == directory] = 0;
    }
    return false;
}

int locate(char **arguments, struct front *ret_front)
{
    struct line *line = &ret_front->line;

    if (parse_line(arguments, line) || !is_plain_id(line->id) || !is_plain_path(line->root) || !is_privileged())
        return HAND_OVER;
    ret_front->arguments = arguments;
    ret_front->id = line->id;
    int length = snprintf(ret_front->directory, sizeof ret_front->directory, "%s/%s", line->root, line->id);
    return length < (int)sizeof ret_front->directory ? 0 : HAND_OVER;
}

int bundle_of(const struct line *line, char *ret_path, uint64_t size)
{
    const char *given = option_of(line, "bundle");

    if (!given || !strcmp(given, "."))
        return getcwd(ret_path, size) && is_plain_path(ret_path) ? 0 : HAND_OVER;
    return is_plain_path(given) && snprintf(ret_path, size, "%s", given) < (int)size ? 0 : HAND_OVER;
}
