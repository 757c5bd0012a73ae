#define _GNU_SOURCE
#include "tree.h"

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "syscalls.h"

/* statfs(2); the same numbers in all C libraries, which do not have all of them */
enum {
    LOCKED_FLAGS = 0x1 | 0x2 | 0x4 | 0x8,               /* ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC */
    ACCESS_TIME_FLAGS = 0x400 | 0x800 | 0x1000          /* ST_NOATIME, ST_NODIRATIME, ST_RELATIME */
};

enum { UEVENT_SIZE = 4096, NUMBER_SIZE = 10 };

static char *append_number(char *end, unsigned int number)
{
    char digits[NUMBER_SIZE];
    size_t length = 0;

    do
        digits[sizeof digits - ++length] = (char)('0' + number % 10);
    while (number /= 10);
    return mempcpy(end, digits + sizeof digits - length, length);
}

/* "/sys/dev/char/1:3/uevent" */
static void place_of_event(char *ret_path, dev_t device, bool is_block)
{
    char *end;

    strcpy(ret_path, is_block ? "/sys/dev/block/" : "/sys/dev/char/");
    end = append_number(ret_path + strlen(ret_path), major(device));
    *end++ = ':';
    strcpy(append_number(end, minor(device)), "/uevent");
}

/* Where the kernel has made its own node of a device: below /dev, by the line "DEVNAME=net/tun" of its uevent. */
static int find_node(dev_t device, bool is_block, char *ret_path)
{
    static const char directory[] = "/dev/", key[] = "\nDEVNAME=";
    char event[sizeof "/sys/dev/block/:/uevent" + 2 * NUMBER_SIZE];

    place_of_event(event, device, is_block);
    AUTO_FD fd = open_at(AT_FDCWD, event, O_RDONLY, 0, 0);
    if (fd < 0)
        return fd;
    strcpy(ret_path, directory);
    char *text = ret_path + sizeof directory - 1;
    ssize_t length = read(fd, text, UEVENT_SIZE - 1);
    if (length < 0)
        return -errno;
    text[length] = '\0';
    char *name = strstr(text, key);
    char *end = name ? strchr(name + sizeof key - 1, '\n') : NULL;
    if (!end)
        return -ENOENT;
    *end = '\0';
    memmove(text, name + sizeof key - 1, (size_t)(end - name) - sizeof key + 2);
    return 0;
}

/* A copy of what is at a path; number: as of copy_tree(). */
static int copy_at(int directory, const char *path, const uint64_t *number, const char **ret_doing)
{
    struct stat st;
    AUTO_FD tree = open_tree(directory, path, OPEN_TREE_CLONE | (number[0] ? AT_RECURSIVE : 0) | (*path ? 0 : AT_EMPTY_PATH));

    *ret_doing = "open_tree";
    if (tree < 0 || !number[2])
        return take_fd(&tree);
    *ret_doing = "stat";
    if (fstat(tree, &st) < 0)
        return -errno;
    *ret_doing = "it is not the device that it should be";
    if ((st.st_mode & S_IFMT) != (number[3] ? S_IFBLK : S_IFCHR) || st.st_rdev != (dev_t)number[2])
        return -ENODEV;
    return take_fd(&tree);
}

int copy_tree(int directory, const char *path, const uint64_t *number, const char **ret_doing)
{
    struct mount_attr attributes = {.propagation = number[1]};
    AUTO_FD tree = copy_at(directory, path, number, ret_doing);

    /* the container may have another name for a device than the host */
    if (number[2] && (tree == -ENOENT || tree == -ENOTDIR || tree == -ENODEV)) {
        char node[sizeof "/dev/" + UEVENT_SIZE];
        if (find_node((dev_t)number[2], number[3], node) == 0)
            tree = copy_at(AT_FDCWD, node, number, ret_doing);
    }
    if (tree < 0)
        return take_fd(&tree);
    if (attributes.propagation) {
        *ret_doing = "set propagation";
        int error = set_mount_attributes(tree, number[0] ? AT_RECURSIVE : 0, &attributes);
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
