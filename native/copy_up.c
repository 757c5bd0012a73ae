/* What of a directory a new file system takes over that covers it, besides the mode: all that is in it, and its owner.
 *
 * Whoever else has the directory, as a volume, may change it meanwhile: every name is opened below the descriptor of its directory, no
 * link is followed, and what is asked of a file is asked of its descriptor. The copy is nobody's until it is mounted. */
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "init.h"

#define BELOW (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define ENTRIES 4096
#define DEPTH_MAX 100       /* two descriptors and ENTRIES bytes of stack for each */
#define CHUNK 65536
/* where the first copy of a file with several links is found again, by its inode; it is removed at the end */
#define LINKS ".pyruntime-links"

struct copying {
    struct init *init;
    int links;              /* -1: there were none so far */
    int root;               /* of the copy */
    char buffer[CHUNK];
    char names[CHUNK];
};

struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int say(struct copying *copying, int error, const char *doing, const char *name)
{
    return explain_path(copying->init, error, doing, name);
}

/* Those that the file system of the copy does not have are left out. */
static int copy_attributes(struct copying *copying, int from, int to)
{
    ssize_t size = flistxattr(from, copying->names, sizeof copying->names);

    if (size < 0)
        return errno == EOPNOTSUPP ? 0 : -errno;
    for (const char *name = copying->names; name < copying->names + size; name += strlen(name) + 1) {
        ssize_t length = fgetxattr(from, name, copying->buffer, sizeof copying->buffer);
        if (length < 0 && errno == ENODATA)
            continue;
        if (length < 0)
            return -errno;
        if (fsetxattr(to, name, copying->buffer, (size_t)length, 0) < 0 && errno != EOPNOTSUPP)
            return -errno;
    }
    return 0;
}

static void set_times(struct timespec *times, const struct stat *st)
{
    times[0] = st->st_atim;
    times[1] = st->st_mtim;
}

static int copy_times(int to, const char *name, const struct stat *st)
{
    struct timespec times[2];

    set_times(times, st);
    return (int)checked(utimensat(to, name, times, AT_SYMLINK_NOFOLLOW));
}

/* The owner first: changing it takes away capabilities, and set-id bits. */
static int copy_metadata(struct copying *copying, int from, int to, const struct stat *st)
{
    struct timespec times[2];

    if (fchown(to, st->st_uid, st->st_gid) < 0)
        return -errno;
    int error = copy_attributes(copying, from, to);
    if (error)
        return error;
    if (fchmod(to, st->st_mode & 07777) < 0)
        return -errno;
    set_times(times, st);
    return futimens(to, times) < 0 ? -errno : 0;
}

/* Without the holes: a log of logins is mostly one. */
static int copy_data(struct copying *copying, int from, int to, off_t size)
{
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t end = data < 0 ? size : lseek(from, data, SEEK_HOLE);
        if (data < 0)
            data = at;
        if (end <= data || end > size)
            end = size;
        for (at = data; at < end;) {
            size_t most = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
            ssize_t got = pread(from, copying->buffer, most, at);
            if (got < 0)
                return -errno;
            if (got == 0)
                return 0;
            for (ssize_t put = 0; put < got;) {
                ssize_t written = pwrite(to, copying->buffer + put, (size_t)(got - put), at + put);
                if (written < 0)
                    return -errno;
                put += written;
            }
            at += got;
        }
    }
    return ftruncate(to, size) < 0 ? -errno : 0;
}

static int open_links(struct copying *copying)
{
    if (copying->links >= 0)
        return copying->links;
    if (mkdirat(copying->root, LINKS, 0700) < 0)
        return -errno;
    copying->links = open_at(copying->root, LINKS, O_RDONLY | O_DIRECTORY, 0, BELOW);
    return copying->links;
}

static int remove_links(struct copying *copying)
{
    int links = copying->links;
    ssize_t size;

    if (links < 0)
        return 0;
    while ((size = syscall(SYS_getdents64, links, copying->buffer, sizeof copying->buffer)) > 0)
        for (ssize_t at = 0; at < size;) {
            const struct entry *entry = (const void *)(copying->buffer + at);
            if (entry->name[0] != '.' && unlinkat(links, entry->name, 0) < 0)
                return -errno;
            at += entry->length;
        }
    if (size < 0)
        return -errno;
    return (int)checked(unlinkat(copying->root, LINKS, AT_REMOVEDIR));
}

#define NAME_SIZE (2 * 2 * sizeof(uint64_t) + 1)

/* The same number may be another file's where a file system shows files of several devices, as an overlay does. */
static void name_inode(const struct stat *st, char *ret_name)
{
    const uint64_t numbers[2] = {st->st_dev, st->st_ino};

    for (unsigned int digit = 0; digit < NAME_SIZE - 1; digit++)
        ret_name[digit] = "0123456789abcdef"[numbers[digit / 16] >> 4 * (digit % 16) & 15];
    ret_name[NAME_SIZE - 1] = 0;
}

/* 1: it is a further link to what was copied already. Else 0, and one that is to come finds it by `note`. */
static int link_to_copy(struct copying *copying, const struct stat *st, int to, const char *name)
{
    char inode[NAME_SIZE];
    int links = open_links(copying);

    if (links < 0)
        return links;
    name_inode(st, inode);
    if (linkat(links, inode, to, name, 0) == 0)
        return 1;
    return errno == ENOENT ? 0 : -errno;
}

static int note_copy(struct copying *copying, const struct stat *st, int to, const char *name)
{
    char inode[NAME_SIZE];

    name_inode(st, inode);
    return (int)checked(linkat(to, name, copying->links, inode, 0));
}

static int copy_file(struct copying *copying, int directory, int to, const char *name)
{
    struct stat st;
    /* not waiting: it may be a FIFO by now */
    AUTO_FD from = open_at(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, BELOW | RESOLVE_NO_XDEV);

    if (from == -EXDEV)     /* mounted there: its place alone */
        return (int)checked(mknodat(to, name, S_IFREG | 0644, 0));
    if (from < 0)
        return from;
    if (fstat(from, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -ESTALE;
    if (st.st_nlink > 1) {
        int linked = link_to_copy(copying, &st, to, name);
        if (linked)
            return linked < 0 ? linked : 0;
    }
    AUTO_FD copy = open_at(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, 0);
    if (copy < 0)
        return copy;
    int error = copy_data(copying, from, copy, st.st_size);
    if (!error)
        error = copy_metadata(copying, from, copy, &st);
    return error || st.st_nlink == 1 ? error : note_copy(copying, &st, to, name);
}

static int copy_link(struct copying *copying, int directory, int to, const char *name, const struct stat *st)
{
    ssize_t length = readlinkat(directory, name, copying->buffer, sizeof copying->buffer - 1);

    if (length < 0)
        return -errno;
    copying->buffer[length] = 0;
    if (symlinkat(copying->buffer, to, name) < 0 || fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return copy_times(to, name, st);
}

static int copy_node(int to, const char *name, const struct stat *st)
{
    if (mknodat(to, name, st->st_mode, st->st_rdev) < 0 || fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return copy_times(to, name, st);
}

static int copy_directory(struct copying *copying, int from, int to, int depth);

static int copy_subdirectory(struct copying *copying, int directory, int to, const char *name, int depth)
{
    struct stat st;

    if (mkdirat(to, name, 0700) < 0)
        return say(copying, -errno, "make directory", name);
    AUTO_FD copy = open_at(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BELOW);
    if (copy < 0)
        return say(copying, copy, "open the copy of", name);
    AUTO_FD from = open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BELOW | RESOLVE_NO_XDEV);
    /* what is mounted there is no part of the image: its place alone */
    bool is_mount = from == -EXDEV;
    if (is_mount)
        from = open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BELOW);
    if (from < 0)
        return say(copying, from, "open", name);
    if (fstat(from, &st) < 0)
        return say(copying, -errno, "stat", name);
    int error = is_mount ? 0 : copy_directory(copying, from, copy, depth + 1);
    if (error)
        return error;
    error = copy_metadata(copying, from, copy, &st);
    return error ? say(copying, error, "copy mode, owner and attributes of", name) : 0;
}

static int copy_entry(struct copying *copying, int from, int to, const char *name, int depth)
{
    struct stat st;
    int error;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : say(copying, -errno, "stat", name);
    if (S_ISDIR(st.st_mode))
        return copy_subdirectory(copying, from, to, name, depth);
    if (S_ISREG(st.st_mode))
        error = copy_file(copying, from, to, name);
    else if (S_ISLNK(st.st_mode))
        error = copy_link(copying, from, to, name, &st);
    else
        error = copy_node(to, name, &st);
    return error ? say(copying, error, "copy", name) : 0;
}

static int copy_directory(struct copying *copying, int from, int to, int depth)
{
    char entries[ENTRIES] __attribute__((aligned(8)));
    ssize_t size;

    if (depth > DEPTH_MAX)
        return say(copying, -ELOOP, "directories are too deep", "");
    while ((size = syscall(SYS_getdents64, from, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < size;) {
            const struct entry *entry = (const void *)(entries + at);
            at += entry->length;
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            int error = copy_entry(copying, from, to, entry->name, depth);
            if (error)
                return error;
        }
    return size < 0 ? say(copying, -errno, "read a directory", "") : 0;
}

static int copy_contents(struct init *init, int from, int to)
{
    struct copying copying;

    copying.init = init;
    copying.links = -1;
    copying.root = to;
    int error = copy_directory(&copying, from, to, 0);
    if (!error) {
        error = remove_links(&copying);
        if (error)
            explain(init, error, "remove the directory of links");
    }
    if (!error) {
        error = copy_attributes(&copying, from, to);
        if (error)
            explain(init, error, "copy attributes");
    }
    close_fd(&copying.links);
    return error;
}

/* number: bits of enum copy_up. Where nothing is yet there is nothing to take over. */
OPERATION(copy_up)
{
    uint64_t what = op->number[0];
    uint64_t access = what & COPY_UP_CONTENTS ? O_RDONLY : O_PATH;
    struct stat st, own;
    AUTO_FD from = open_inside(plan_text(&init->plan, op, 0), access | O_DIRECTORY);

    /* where it cannot be mounted either, mounting says why */
    if (from == -ENOENT || from == -ENOTDIR || from == -ELOOP)
        return 0;
    if (from < 0)
        return explain(init, from, "open");
    AUTO_FD to = open_at(init->slots[op->slot[0]], ".", O_RDONLY | O_DIRECTORY, 0, 0);
    if (to < 0)
        return explain(init, to, "open the new file system");
    if (fstat(from, &st) < 0 || fstat(to, &own) < 0)
        return explain(init, -errno, "stat");
    int error = what & COPY_UP_CONTENTS ? copy_contents(init, from, to) : 0;
    if (error)
        return error;
    if (what & (COPY_UP_UID | COPY_UP_GID) && fchown(to, what & COPY_UP_UID ? st.st_uid : (uid_t)-1,
                                                     what & COPY_UP_GID ? st.st_gid : (gid_t)-1) < 0)
        return explain(init, -errno, "chown");
    /* an access control list has changed it */
    if (fchmod(to, own.st_mode & 07777) < 0)
        return explain(init, -errno, "chmod");
    return 0;
}
