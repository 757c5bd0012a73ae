#include "tree.h"

#include <stddef.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "syscalls.h"

/* statfs(2); the same numbers in all C libraries, which do not have all of them */
enum {
    LOCKED_FLAGS = 0x1 | 0x2 | 0x4 | 0x8,               /* ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC */
    ACCESS_TIME_FLAGS = 0x400 | 0x800 | 0x1000          /* ST_NOATIME, ST_NODIRATIME, ST_RELATIME */
};

int copy_tree(int directory, const char *path, const uint64_t *number, const char **ret_doing)
{
    struct stat st;
    struct mount_attr attributes = {.propagation = number[1]};
    unsigned int recursive = number[0] ? AT_RECURSIVE : 0;
    AUTO_FD tree = open_tree(directory, path, OPEN_TREE_CLONE | recursive | (*path ? 0 : AT_EMPTY_PATH));

    *ret_doing = "open_tree";
    if (tree < 0)
        return tree;
    if (number[2]) {
        *ret_doing = "stat";
        if (fstat(tree, &st) < 0)
            return -errno;
        *ret_doing = "it is not the device that it should be";
        if ((st.st_mode & S_IFMT) != (number[3] ? S_IFBLK : S_IFCHR) || st.st_rdev != (dev_t)number[2])
            return -ENODEV;
    }
    if (attributes.propagation) {
        *ret_doing = "set propagation";
        int error = set_mount_attributes(tree, recursive, &attributes);
        if (error)
            return error;
    }
    return take_fd(&tree);
}

int set_unlocked_attributes(int mount, const uint64_t *number)
{
    struct mount_attr attributes = {.attr_set = number[0], .attr_clr = number[1], .propagation = number[2]};
    struct statfs before, after;

    if (fstatfs(mount, &before) < 0)
        return -errno;
    int error = set_mount_attributes(mount, 0, &attributes);
    if (error)
        return error;
    if (fstatfs(mount, &after) < 0)
        return -errno;
    unsigned long lost = (unsigned long)before.f_flags & ~(unsigned long)after.f_flags & LOCKED_FLAGS;
    unsigned long changed = ((unsigned long)before.f_flags ^ (unsigned long)after.f_flags) & ACCESS_TIME_FLAGS;
    return lost || changed ? -EPERM : 0;
}
