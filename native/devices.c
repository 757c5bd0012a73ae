/* Directories, device nodes, links and the console below the container's root. */
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

#include "init.h"

#define ALL_MODE_BITS 07777

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#ifndef DEVPTS_SUPER_MAGIC
#define DEVPTS_SUPER_MAGIC 0x1cd1
#endif

/* numbers: mode, 1 if whoever uses the directory will say why it could not be made */
OPERATION(make_directory)
{
    AUTO_FD fd = -1;
    int error = make_directory_inside(init, plan_text(&init->plan, op, 0), (unsigned int)op->number[0], &fd);

    return op->number[1] ? 0 : error;
}

/* A node that is there already stays as it is: changing its mode would take opening the device. */
static int check_node(struct init *init, const struct operation *op, const struct stat *st)
{
    mode_t mode = (mode_t)op->number[0];
    uint64_t demands = op->number[4];

    if ((st->st_mode & S_IFMT) != (mode & S_IFMT) || (!S_ISFIFO(mode) && st->st_rdev != (dev_t)op->number[1]))
        return explain(init, -EEXIST, "there is something else than that device");
    if (demands & NODE_HAS_MODE && (st->st_mode & ALL_MODE_BITS) != (mode & ALL_MODE_BITS))
        return explain(init, -EEXIST, "that device is there already, with another mode");
    if (demands & NODE_HAS_UID && st->st_uid != (uid_t)op->number[2])
        return explain(init, -EEXIST, "that device is there already, of another user");
    if (demands & NODE_HAS_GID && st->st_gid != (gid_t)op->number[3])
        return explain(init, -EEXIST, "that device is there already, of another group");
    return 0;
}

/* numbers: mode with the file type, device, uid, gid, bits of enum node_demand */
OPERATION(make_node)
{
    const char *name, *path = plan_text(&init->plan, op, 0);
    struct stat st;

    if (op->number[4] & NODE_EXISTS) {
        AUTO_FD node = open_inside(path, O_PATH);
        if (node < 0)
            return explain(init, node, "what is mounted there does not have it, and none is made in it");
        return fstat(node, &st) < 0 ? explain(init, -errno, "stat") : check_node(init, op, &st);
    }
    int parent = hold_parent(init, path, &name);
    if (parent < 0)
        return parent;
    if (mknodat(parent, name, (mode_t)op->number[0], (dev_t)op->number[1]) < 0) {
        if (errno != EEXIST)
            return explain(init, -errno, "mknodat");
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return explain(init, -errno, "stat");
        return check_node(init, op, &st);
    }
    if (fchownat(parent, name, (uid_t)op->number[2], (gid_t)op->number[3], AT_SYMLINK_NOFOLLOW) < 0)
        return explain(init, -errno, "chown");
    return 0;
}

/* text: target, path; number: 1 to replace what is there. Otherwise the image's own choice stays. */
OPERATION(make_link)
{
    const char *name, *target = plan_text(&init->plan, op, 1);
    int parent = hold_parent(init, plan_text(&init->plan, op, 0), &name);

    if (parent < 0)
        return parent;
    if (op->number[0] && unlinkat(parent, name, 0) < 0 && errno != ENOENT)
        return explain(init, -errno, "unlink");
    if (symlinkat(target, parent, name) < 0 && errno != EEXIST)
        return explain(init, -errno, "symlink");
    return 0;
}

static int open_multiplexer(struct init *init)
{
    AUTO_FD fd = open_inside("/dev/pts/ptmx", O_RDWR | O_NOCTTY);
    struct stat st;
    struct statfs fs;

    if (fd < 0)
        return explain(init, fd, "open /dev/pts/ptmx");
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return explain(init, -errno, "stat /dev/pts/ptmx");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC)
        return explain(init, -ENOTTY, "/dev/pts/ptmx is not a devpts multiplexer");
    return take_fd(&fd);
}

static int attach_console(struct init *init, int terminal)
{
    AUTO_FD target = -1;
    int error = make_file_inside(init, "/dev/console", &target);

    if (error)
        return error;
    release_parent(init);
    AUTO_FD mount = open_tree(terminal, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    if (mount < 0)
        return explain(init, mount, "bind the terminal");
    error = move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    return error ? explain(init, error, "attach /dev/console") : 0;
}

/* numbers: width, height, uid, whether to bind /dev/console */
OPERATION(open_console)
{
    AUTO_FD master = open_multiplexer(init);
    int unlocked = 0;

    if (master < 0)
        return master;
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        return explain(init, -errno, "unlock the terminal");
    AUTO_FD terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        return explain(init, -errno, "open the terminal");
    if (op->number[0] && op->number[1]) {
        struct winsize size = {.ws_col = (unsigned short)op->number[0], .ws_row = (unsigned short)op->number[1]};
        if (ioctl(master, TIOCSWINSZ, &size) < 0)
            return explain(init, -errno, "set the terminal's size");
    }
    if (fchown(terminal, (uid_t)op->number[2], (gid_t)-1) < 0 && errno != EPERM)
        return explain(init, -errno, "chown the terminal");
    if (op->number[3]) {
        int error = attach_console(init, terminal);
        if (error)
            return error;
    }
    struct message message = {.type = MESSAGE_CONSOLE, .operation = -1};
    int error = send_message(init->wire, &message, master);
    if (error < 0)
        return explain(init, error, "send the terminal's master");
    for (int fd = 0; fd < 3; fd++)
        if (dup3(terminal, fd, 0) < 0)
            return explain(init, -errno, "dup3");
    return 0;
}

/* Away from the caller's session: its terminal's signals and input are not the container's. number: 1 to take the terminal
 * at 0. By the process that stays: the end of a session's leader hangs the terminal up. */
OPERATION(start_session)
{
    if (setsid() < 0)
        return explain(init, -errno, "setsid");
    if (op->number[0] && ioctl(0, TIOCSCTTY, 0) < 0)
        return explain(init, -errno, "make it the controlling terminal");
    return 0;
}
