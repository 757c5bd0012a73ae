/* System calls for which musl or glibc 2.36 have no wrapper, or one that clashes with the kernel's headers.
 * Each returns the result or -errno. */
#ifndef PYRUNTIME_SYSCALLS_H
#define PYRUNTIME_SYSCALLS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

/* of umount2(2): <sys/mount.h> cannot be included beside <linux/mount.h> */
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif

static inline long checked(long result)
{
    return result < 0 ? -errno : result;
}

/* ".." in a scoped resolution fails with EAGAIN whenever anything on the host is renamed or mounted meanwhile (openat2(2)); a number
 * of times, so that who does nothing else keeps nobody here for ever. */
#define RESOLUTIONS_MAX 1000

static inline int open_at(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    int fd = -EAGAIN;

    for (int i = 0; i < RESOLUTIONS_MAX && fd == -EAGAIN; i++)
        fd = (int)checked(syscall(SYS_openat2, directory, path, &how, sizeof how));
    return fd;
}

static inline int open_tree(int directory, const char *path, unsigned int flags)
{
    return (int)checked(syscall(SYS_open_tree, directory, path, flags | OPEN_TREE_CLOEXEC));
}

static inline int move_mount(int from, const char *from_path, int to, const char *to_path, unsigned int flags)
{
    return (int)checked(syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}

static inline int set_mount_attributes(int fd, unsigned int flags, const struct mount_attr *attributes)
{
    return (int)checked(syscall(SYS_mount_setattr, fd, "", flags | AT_EMPTY_PATH, attributes, sizeof *attributes));
}

/* What its EINVAL means, for whoever reads it. */
#define NO_MAPPED_MOUNTS "this kernel cannot map the ids of such a file system"

static inline int map_ids_of_mount(int mount, int user_namespace, bool recursive)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_namespace};

    return set_mount_attributes(mount, recursive ? AT_RECURSIVE : 0, &attributes);
}

static inline int close_between(unsigned int first, unsigned int last, unsigned int flags)
{
    return (int)checked(syscall(SYS_close_range, first, last, flags));
}

static inline int close_from(unsigned int first, unsigned int flags)
{
    return close_between(first, ~0U, flags);
}

/* A descriptor that closes itself at the end of its block; take_fd() gives it away. */
static inline void close_fd(const int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}
#define AUTO_FD __attribute__((cleanup(close_fd))) int

static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
