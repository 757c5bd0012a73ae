/* File systems: making and configuring them, and the private procfs. */
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "init.h"

#ifndef ST_RELATIME
#define ST_RELATIME 0x1000
#endif
#define ST_NOSYMFOLLOW 0x2000
/* of fsconfig(2), which says EINVAL of what is longer */
#define VALUE_MAX 255

/* What the kernel said in the file system's own words, else what was being done. */
static int explain_filesystem(struct init *init, int error, int context, const char *doing, const char *object)
{
    char log[MESSAGE_DETAIL / 2];
    ssize_t length = read(context, log, sizeof log - 1);

    if (length <= 0)
        return explain_path(init, error, doing, object);
    log[length] = 0;
    log[strcspn(log, "\n")] = 0;
    /* "e tmpfs: Unknown parameter 'x'": the letter is the severity */
    return explain_path(init, error, length > 2 && log[1] == ' ' ? log + 2 : log, object);
}

static int configure(int context, unsigned int command, const char *key, const char *value)
{
    return (int)checked(syscall(SYS_fsconfig, context, command, key, value, 0));
}

/* text: which of the operation's is the list */
static int set_options(struct init *init, const struct operation *op, int text, int context)
{
    const char *option;

    for (uint32_t i = 0; (option = plan_item(&init->plan, op, text, i)); i++) {
        const char *equals = strchr(option, '=');
        char key[64];
        size_t length = equals ? (size_t)(equals - option) : strlen(option);
        if (length >= sizeof key)
            return explain_path(init, -EINVAL, "set option", option);
        memcpy(key, option, length);
        key[length] = 0;
        if (equals && strlen(equals + 1) > VALUE_MAX)
            return explain_path(init, -E2BIG, "the kernel takes no more than 255 bytes of the option", key);
        int error = equals ? configure(context, FSCONFIG_SET_STRING, key, equals + 1)
                           : configure(context, FSCONFIG_SET_FLAG, key, NULL);
        if (error)
            return explain_filesystem(init, error, context, "set option", option);
    }
    return 0;
}

/* mode: in octal digits; NULL for the file system's own choice */
static int mount_new(struct init *init, const struct operation *op, const char *type, const char *mode, int *ret_fd)
{
    AUTO_FD context = (int)checked(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));

    if (context < 0)
        return explain_path(init, context, "open file system type", type);
    int error = set_options(init, op, 1, context);
    if (error)
        return error;
    error = mode ? configure(context, FSCONFIG_SET_STRING, "mode", mode) : 0;
    if (error)
        return explain_filesystem(init, error, context, "set option mode", mode);
    error = configure(context, FSCONFIG_CMD_CREATE, NULL, NULL);
    if (error)
        return explain_filesystem(init, error, context, "create file system", type);
    AUTO_FD mount = (int)checked(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, (unsigned int)op->number[0]));
    if (mount < 0)
        return explain_filesystem(init, mount, context, "mount file system", type);
    *ret_fd = take_fd(&mount);
    return 0;
}

OPERATION(new_filesystem)
{
    return mount_new(init, op, plan_text(&init->plan, op, 0), NULL, &init->slots[op->slot[0]]);
}

/* text: where it is going to be mounted: it has the mode of the directory there. */
OPERATION(new_tmpfs)
{
    AUTO_FD covered = open_inside(plan_text(&init->plan, op, 0), O_PATH | O_DIRECTORY);
    char mode[] = "0000";
    struct stat st;

    /* where it cannot be mounted either, mounting says why */
    if (covered == -ENOENT || covered == -ENOTDIR || covered == -ELOOP)
        return mount_new(init, op, "tmpfs", NULL, &init->slots[op->slot[0]]);
    if (covered < 0)
        return explain(init, covered, "open");
    if (fstat(covered, &st) < 0)
        return explain(init, -errno, "stat");
    for (int digit = 0; digit < 4; digit++)
        mode[digit] = (char)('0' + (st.st_mode >> (9 - 3 * digit) & 7));
    return mount_new(init, op, "tmpfs", mode, &init->slots[op->slot[0]]);
}

/* For a file system that takes no label when it is made (mqueue, which the kernel has made already). text: the label */
OPERATION(label_filesystem)
{
    const char *label = plan_text(&init->plan, op, 0);
    AUTO_FD fd = open_at(init->slots[op->slot[0]], ".", O_RDONLY | O_DIRECTORY, 0, 0);

    if (fd < 0)
        return explain(init, fd, "open");
    if (syscall(SYS_fsetxattr, fd, "security.selinux", label, strlen(label), 0) < 0)
        return explain_path(init, -errno, "label", label);
    return 0;
}

OPERATION(reconfigure_filesystem)
{
    AUTO_FD context = (int)checked(syscall(SYS_fspick, init->slots[op->slot[0]], "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));

    if (context < 0)
        return explain(init, context, "open the file system's configuration");
    int error = set_options(init, op, 0, context);
    if (error)
        return error;
    error = configure(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL);
    return error ? explain_filesystem(init, error, context, "reconfigure", "file system") : 0;
}

/* A remount with mount(2) sets all flags, so those that are there have to be given again: in statfs(2) most have the numbers of mount(2). */
static unsigned long flags_of_mount(const struct statfs *fs)
{
    const unsigned long same = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK | MS_NOATIME | MS_NODIRATIME;
    unsigned long found = (unsigned long)fs->f_flags, flags = found & same;

    if (found & ST_RELATIME)
        flags |= MS_RELATIME;
    else if (!(found & MS_NOATIME))
        flags |= MS_STRICTATIME;
    return found & ST_NOSYMFOLLOW ? flags | MS_NOSYMFOLLOW : flags;
}

/* number: flags of the file system that statfs(2) does not tell. Inodes get versions by no option that fsconfig(2) takes of every file
 * system, only by mount(2), to which the current directory is the mount. */
OPERATION(count_versions)
{
    int mount = init->slots[op->slot[0]], error = 0;
    struct statfs fs;
    AUTO_FD current = open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0, 0);

    if (current < 0)
        return explain(init, current, "open the working directory");
    if (fstatfs(mount, &fs) < 0)
        return explain(init, -errno, "statfs");
    if (fchdir(mount) < 0)
        return explain(init, -errno, "enter the mount");
    if (syscall(SYS_mount, NULL, ".", NULL, MS_REMOUNT | MS_I_VERSION | flags_of_mount(&fs) | op->number[0], NULL) < 0)
        error = explain(init, -errno, "remount with versions of inodes");
    if (fchdir(current) < 0)
        return explain(init, -errno, "enter the working directory");
    return error;
}

OPERATION(open_proc)
{
    AUTO_FD context = (int)checked(syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC));

    if (context < 0)
        return explain(init, context, "open file system type proc");
    int error = configure(context, FSCONFIG_CMD_CREATE, NULL, NULL);
    if (error)
        return explain(init, error, "create a private procfs");
    int mount = (int)checked(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
                                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    if (mount < 0)
        return explain(init, mount, "mount a private procfs");
    init->slots[op->slot[0]] = mount;
    return 0;
}

OPERATION(write_proc)
{
    const char *path = plan_text(&init->plan, op, 0);
    const char *value = plan_text(&init->plan, op, 1);
    AUTO_FD fd = open_at(init->slots[op->slot[0]], path, O_WRONLY, 0,
                         RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);

    if (fd < 0)
        return explain(init, fd, "open for writing");
    if (write(fd, value, strlen(value)) < 0)
        return explain_path(init, -errno, "write", value);
    return 0;
}
