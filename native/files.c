/* Files of state directories and of cgroups: each function does in one call, without the interpreter's lock, what would be several. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "plan.h"
#include "syscalls.h"

int64_t read_file(const char *path, char *ret_data, uint64_t size)
{
    /* nobody is waited for who would write into a FIFO */
    AUTO_FD fd = open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, 0);
    uint64_t length = 0;

    if (fd < 0)
        return fd;
    /* the kernel ends a read of its own files where a line would not fit */
    while (length < size) {
        ssize_t got = read(fd, ret_data + length, size - length);
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        length += (uint64_t)got;
    }
    return (int64_t)length;
}

int store_file(const char *path, const char *data, uint64_t size, const char *renamed_to)
{
    AUTO_FD fd = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, 0);

    if (fd < 0)
        return fd;
    ssize_t written = write(fd, data, size);
    if (written < 0)
        return -errno;
    if ((uint64_t)written != size)
        return -ENOSPC;
    return renamed_to && rename(path, renamed_to) < 0 ? -errno : 0;
}

int lock_directory(const char *path)
{
    struct stat st;
    AUTO_FD fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, 0);

    if (fd < 0)
        return fd;
    if (flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
        return -errno;
    /* one that was removed while we waited is not what has this name now */
    return st.st_nlink ? take_fd(&fd) : -ESTALE;
}

int remove_directory(const char *path)
{
    int fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0), error = 0;

    if (fd < 0)
        return fd;
    DIR *entries = fdopendir(fd);
    if (!entries) {
        close(fd);
        return -errno;
    }
    for (struct dirent *entry; !error && (entry = readdir(entries));) {
        const char *name = entry->d_name;
        if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
            continue;
        if (unlinkat(dirfd(entries), name, 0) < 0 && errno != ENOENT)
            error = -errno;
    }
    closedir(entries);
    return error ? error : rmdir(path) < 0 ? -errno : 0;
}

void remove_empty_directories(const char *paths, int count, int *ret_errors)
{
    for (int i = 0; i < count; i++, paths += strlen(paths) + 1)
        ret_errors[i] = rmdir(paths) < 0 ? errno : 0;
}

int open_in_root(int root, const char *path)
{
    return open_at(root, path, O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}
