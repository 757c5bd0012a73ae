/* Opening and making paths of the container. The root file system is hostile: any component may be a link, and another
 * container that shares a volume may swap it meanwhile. So the kernel resolves (RESOLVE_IN_ROOT), nothing is resolved
 * twice, and what is missing is made component by component below a held descriptor. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "init.h"

#define INSIDE (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
#define LINKS_MAX 40

int open_inside(const char *path, uint64_t flags)
{
    return open_at(AT_FDCWD, path, flags, 0, INSIDE);
}

/* Replace the dangling link that ends path[..end] by what it points to; the rest stays. */
static int expand_link(int parent, const char *name, char *path, size_t begin, size_t end)
{
    char target[PATH_MAX];
    ssize_t length = readlinkat(parent, name, target, sizeof target);
    size_t rest = strlen(path + end);

    if (length < 0)
        return -errno;
    size_t keep = target[0] == '/' ? 0 : begin;
    if (keep + (size_t)length + rest + 1 > PATH_MAX)
        return -ENAMETOOLONG;
    memmove(path + keep + length, path + end, rest + 1);
    memcpy(path + keep, target, (size_t)length);
    return 0;
}

/* One missing component: 0 and a descriptor, or 1 if a dangling link there was expanded in path. */
static int make_component(int parent, char *path, size_t begin, size_t end, bool directory, unsigned int mode, int *ret_fd)
{
    char name[NAME_MAX + 1];

    if (end - begin > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, path + begin, end - begin);
    name[end - begin] = 0;
    if (directory) {
        if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
            return -errno;
    } else {
        AUTO_FD file = open_at(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode, 0);
        if (file < 0 && file != -EEXIST)
            return file;
    }
    AUTO_FD fd = open_at(parent, name, O_PATH | O_NOFOLLOW, 0, 0);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode)) {
        int error = expand_link(parent, name, path, begin, end);
        return error ? error : 1;
    }
    if (directory && !S_ISDIR(st.st_mode))
        return -ENOTDIR;
    *ret_fd = take_fd(&fd);
    return 0;
}

static int open_prefix(char *path, size_t end)
{
    char saved = path[end];

    path[end] = 0;
    int fd = open_inside(end ? path : "/", O_PATH);
    path[end] = saved;
    return fd;
}

/* Open path, making what is missing: directories, and at the end what is asked for. */
static int make_inside(const char *wanted, bool directory, unsigned int mode, int *ret_fd)
{
    char path[PATH_MAX];

    int found = open_inside(wanted, O_PATH);
    if (found != -ENOENT) {
        if (found >= 0)
            *ret_fd = found;
        return found < 0 ? found : 0;
    }
    if (strlen(wanted) >= sizeof path)
        return -ENAMETOOLONG;
    strcpy(path, wanted);
    /* mostly only the last component is missing: begin at its parent */
    char *slash = strrchr(path, '/');
    size_t parent_end = slash ? (size_t)(slash - path) : 0;
    for (int links = 0; links < LINKS_MAX; links++, parent_end = 0) {
        AUTO_FD held = open_prefix(path, parent_end);
        size_t begin = parent_end;

        if (held == -ENOENT && parent_end) {
            held = open_prefix(path, 0);
            begin = 0;
        }
        bool made = false;
        int expanded = 0;

        if (held < 0)
            return held;
        while (path[begin] == '/')
            begin++;
        while (path[begin]) {
            size_t end = begin + strcspn(path + begin, "/");
            size_t next = end + strspn(path + end, "/");
            AUTO_FD fd = made ? -ENOENT : open_prefix(path, end);

            if (fd == -ENOENT) {
                if (end - begin == 2 && memcmp(path + begin, "..", 2) == 0)
                    return -ENOENT;
                bool last = path[next] == 0;
                expanded = make_component(held, path, begin, end, !last || directory, last ? mode : 0755, &fd);
                if (expanded < 0)
                    return expanded;
                if (expanded)
                    break;
                made = true;
            } else if (fd < 0) {
                return fd;
            }
            close(held);
            held = take_fd(&fd);
            begin = next;
        }
        if (!expanded) {
            *ret_fd = take_fd(&held);
            return 0;
        }
    }
    return -ELOOP;
}

int make_directory_inside(struct init *init, const char *path, unsigned int mode, int *ret_fd)
{
    AUTO_FD fd = -1;
    struct stat st;
    int error = make_inside(path, true, mode, &fd);

    if (error)
        return explain_path(init, error, "make directory", path);
    if (fstat(fd, &st) < 0)
        return explain_path(init, -errno, "stat", path);
    if (!S_ISDIR(st.st_mode))
        return explain_path(init, -ENOTDIR, "make directory", path);
    *ret_fd = take_fd(&fd);
    return 0;
}

int make_file_inside(struct init *init, const char *path, int *ret_fd)
{
    AUTO_FD fd = -1;
    struct stat st;
    int error = make_inside(path, false, 0644, &fd);

    if (error)
        return explain_path(init, error, "make file", path);
    if (fstat(fd, &st) < 0)
        return explain_path(init, -errno, "stat", path);
    if (S_ISDIR(st.st_mode))
        return explain_path(init, -EISDIR, "make file", path);
    *ret_fd = take_fd(&fd);
    return 0;
}

void release_parent(struct init *init)
{
    close_fd(&init->parent);
    init->parent = -1;
}

int hold_parent(struct init *init, const char *path, const char **ret_name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;

    *ret_name = slash ? slash + 1 : path;
    if (init->parent >= 0 && init->parent_length == length && memcmp(init->parent_path, path, length) == 0)
        return init->parent;
    release_parent(init);
    if (length >= sizeof parent)
        return explain_path(init, -ENAMETOOLONG, "open parent of", path);
    memcpy(parent, path, length);
    parent[length] = 0;
    int error = make_directory_inside(init, length ? parent : "/", 0755, &init->parent);
    if (error)
        return error;
    init->parent_path = path;
    init->parent_length = length;
    return init->parent;
}

/* The common case of a mount's target: it is in a directory that is held, and no link. 1: it is another case. */
static int make_in_parent(int parent, const char *name, bool directory, int *ret_fd)
{
    struct stat st;

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 1;
    AUTO_FD fd = open_at(parent, name, O_PATH | O_NOFOLLOW, 0, 0);
    if (fd == -ENOENT) {
        AUTO_FD file = -1;
        if (directory)
            file = mkdirat(parent, name, 0755) < 0 ? -errno : -1;
        else
            file = open_at(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644, 0);
        if (file < -1 && file != -EEXIST)
            return file;
        fd = open_at(parent, name, O_PATH | O_NOFOLLOW, 0, 0);
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return 1;
    if (S_ISDIR(st.st_mode) != directory)
        return directory ? -ENOTDIR : -EISDIR;
    *ret_fd = take_fd(&fd);
    return 0;
}

int make_target_inside(struct init *init, const char *path, bool directory, int *ret_fd)
{
    const char *name;
    int parent = hold_parent(init, path, &name);

    if (parent < 0)
        return parent;
    int error = make_in_parent(parent, name, directory, ret_fd);
    if (error <= 0)
        return error ? explain_path(init, error, directory ? "make directory" : "make file", path) : 0;
    /* a link may lead above the held directory, and what is mounted there would cover it */
    release_parent(init);
    return directory ? make_directory_inside(init, path, 0755, ret_fd) : make_file_inside(init, path, ret_fd);
}
