#include "tree.h"

#include <stddef.h>
#include <sys/stat.h>

#include "syscalls.h"

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
