/* Mounts and the change of root. A mount is finished while detached (attributes, read-only) and then moved onto
 * a descriptor of its target. */
#include <linux/sched.h>
#include <string.h>
#include <sys/stat.h>

#include "init.h"
#include "tree.h"

/* Of what the mount namespace shows, which is the caller's or a copy of it. */
OPERATION(open_tree_inside)
{
    const char *doing;
    int tree = copy_tree(AT_FDCWD, plan_text(&init->plan, op, 0), op->number, &doing);

    if (tree < 0)
        return explain(init, tree, doing);
    init->slots[op->slot[0]] = tree;
    return 0;
}

/* numbers: 1 for recursive, propagation. Of what is mounted in the root by now; a link there leads to the root alone. */
OPERATION(copy_tree_inside)
{
    const char *doing;
    const uint64_t number[] = {op->number[0], op->number[1], 0, 0};
    AUTO_FD source = open_inside(plan_text(&init->plan, op, 0), O_PATH);

    if (source < 0)
        return explain(init, source, "open");
    int tree = copy_tree(source, "", number, &doing);
    if (tree < 0)
        return explain(init, tree, doing);
    init->slots[op->slot[0]] = tree;
    return 0;
}

static int change_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive)
{
    /* the access time modes are a field of values, not of bits: setting one clears the field */
    struct mount_attr attributes = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

    return set_mount_attributes(fd, recursive ? AT_RECURSIVE : 0, &attributes);
}

OPERATION(apply_mount_attributes)
{
    int error = change_attributes(init->slots[op->slot[0]], op->number[0], op->number[1], op->number[2],
                                  op->number[3]);

    return error ? explain(init, error, "set mount attributes") : 0;
}

/* numbers: attributes to set, to clear, propagation */
OPERATION(apply_unlocked_attributes)
{
    int error = set_unlocked_attributes(init->slots[op->slot[0]], op->number);

    return error ? explain(init, error, error == -EPERM ? LOCKED_ATTRIBUTES : "set mount attributes") : 0;
}

/* numbers: attributes to set, to clear, propagation, 1 for recursive */
OPERATION(set_attributes_at)
{
    AUTO_FD fd = open_inside(plan_text(&init->plan, op, 0), O_PATH);

    if (fd < 0)
        return explain(init, fd, "open");
    int error = change_attributes(fd, op->number[0], op->number[1], op->number[2], op->number[3]);
    return error ? explain(init, error, error == -EINVAL ? "nothing is mounted there" : "set mount attributes") : 0;
}

/* slots: the mount, which has been attached nowhere yet, and a user namespace; number: 1 for recursive */
OPERATION(map_mount_ids)
{
    int error = map_ids_of_mount(init->slots[op->slot[0]], init->slots[op->slot[1]], op->number[0]);

    return error ? explain(init, error, error == -EINVAL ? NO_MAPPED_MOUNTS : "map the ids") : 0;
}

/* slot: a mount, which has been attached nowhere yet. In a user namespace its ids are mapped by the caller, who has privileges over its
 * file system. */
OPERATION(offer_mount)
{
    struct message message = {.type = MESSAGE_MOUNT, .operation = -1};
    int mount = init->slots[op->slot[0]], error = mount < 0 ? -EBADF : send_message(init->wire, &message, mount);

    return error < 0 ? explain(init, error, "pass the mount") : await_byte(init);
}

/* Every mount of the new namespace becomes a slave, so that neither the change of root nor an unmount reaches the host. */
static int make_slaves(void)
{
    return (int)checked(syscall(SYS_mount, NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
}

/* To the root of the mount namespace, which is above that of a process in a chroot. A pidfd, since there may be no procfs. */
static int leave_chroot(struct init *init)
{
    AUTO_FD self = (int)checked(syscall(SYS_pidfd_open, getpid(), 0));

    if (self < 0)
        return explain(init, self, "open a pidfd");
    if (syscall(SYS_setns, self, CLONE_NEWNS) < 0)
        return explain(init, -errno, "leave the caller's root, which is no mount");
    return 0;
}

OPERATION(isolate_propagation)
{
    int error = make_slaves();

    (void)op;
    if (error != -EINVAL)
        return error ? explain(init, error, "make all mounts slaves of the host's") : 0;
    /* the caller is in a chroot that is no mount: its paths are still needed, but its root is not what can be pivoted */
    AUTO_FD root = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0);
    if (root < 0)
        return explain(init, root, "open the caller's root");
    error = leave_chroot(init);
    if (error)
        return error;
    error = make_slaves();
    if (error)
        return explain(init, error, "make all mounts slaves of the host's");
    init->is_in_chroot = true;
    if (fchdir(root) < 0)
        return explain(init, -errno, "enter the caller's root");
    return chroot(".") < 0 ? explain(init, -errno, "chroot") : 0;
}

static int enter_new_root(struct init *init, const struct operation *op)
{
    int root = init->slots[op->slot[0]];

    release_parent(init);
    int error = init->is_in_chroot ? leave_chroot(init) : 0;
    if (error)
        return error;
    /* The new root goes on top of the old one: no path of the host has to be looked up, and there is no place
     * where something else could be. */
    error = move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
    if (error)
        return explain(init, error, "move the new root onto the old one");
    return fchdir(root) < 0 ? explain(init, -errno, "enter the new root") : 0;
}

OPERATION(change_to_pivot_root)
{
    int error = enter_new_root(init, op);

    if (error)
        return error;
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return explain(init, -errno, "pivot_root");
    /* both are now at ".": the old one is on top */
    if (syscall(SYS_umount2, ".", MNT_DETACH) < 0)
        return explain(init, -errno, "detach the old root");
    return chdir("/") < 0 ? explain(init, -errno, "enter the new root") : 0;
}

static int change_root_to_here(struct init *init)
{
    if (chroot(".") < 0)
        return explain(init, -errno, "chroot");
    return chdir("/") < 0 ? explain(init, -errno, "enter the new root") : 0;
}

/* The root of an initramfs has no parent and cannot be pivoted away: cover it, as switch_root does. */
OPERATION(switch_root)
{
    /* As long as its mount namespace has a whole procfs or sysfs, reachable or not, the kernel lets a process that has made itself a
     * user namespace mount another one, in which nothing is masked (mount_too_revealing). */
    static const char *const whole[] = {"/proc", "/sys"};
    int error = init->is_in_chroot ? leave_chroot(init) : 0;

    if (error)
        return error;
    for (int i = 0; i < 2; i++)
        /* with a user namespace of the container's own nothing of the host's can be taken away */
        if (syscall(SYS_umount2, whole[i], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT && errno != EPERM)
            return explain_path(init, -errno, "detach", whole[i]);
    error = enter_new_root(init, op);
    return error ? error : change_root_to_here(init);
}

/* A mount namespace that others use keeps its root: the new one is mounted at a path of it. */
OPERATION(mount_root)
{
    int root = init->slots[op->slot[0]];
    AUTO_FD target = open_at(AT_FDCWD, plan_text(&init->plan, op, 0), O_PATH | O_DIRECTORY, 0, 0);

    release_parent(init);
    if (target < 0)
        return explain(init, target, "open in the mount namespace");
    int error = move_mount(root, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (error)
        return explain(init, error, "move_mount");
    /* below a shared mount it became shared */
    error = change_attributes(root, 0, 0, MS_SLAVE, true);
    return error ? explain(init, error, "set propagation") : 0;
}

/* Where the root file system is by name, in the mount namespace that the init is in. */
OPERATION(open_root_place)
{
    int fd = open_at(AT_FDCWD, plan_text(&init->plan, op, 0), O_PATH | O_DIRECTORY, 0, 0);

    if (fd < 0)
        return explain(init, fd, "open in the mount namespace");
    init->slots[op->slot[0]] = fd;
    return 0;
}

static int begin_in(struct init *init, int root)
{
    release_parent(init);
    return fchdir(root) < 0 ? explain(init, -errno, "enter the root") : 0;
}

/* slots: the place, the root. Hooks want to find the container's mounts below its path, and the host's files beside. From here on
 * the root is the current directory, which is all that resolution within it needs. */
OPERATION(place_root)
{
    int *place = &init->slots[op->slot[0]], root = init->slots[op->slot[1]];
    int error = move_mount(root, "", *place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);

    if (error)
        return explain(init, error, "move_mount");
    close(take_fd(place));
    return begin_in(init, root);
}

/* The same of a root that has its place. */
OPERATION(enter_root)
{
    return begin_in(init, init->slots[op->slot[0]]);
}

OPERATION(use_root)
{
    release_parent(init);
    if (fchdir(init->slots[op->slot[0]]) < 0)
        return explain(init, -errno, "enter the root");
    return change_root_to_here(init);
}

OPERATION(attach_mount)
{
    const char *path = plan_text(&init->plan, op, 0);
    int mount = init->slots[op->slot[0]];
    AUTO_FD target = -1;
    struct stat st;

    if (fstat(mount, &st) < 0)
        return explain(init, -errno, "stat the mount's root");
    if (op->number[0]) {
        release_parent(init);
        target = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        if (target == -ELOOP || target == -ENOTDIR)
            return explain(init, target, "must be mounted on ordinary directory, and on no link");
    }
    if (target < 0) {
        int error = make_target_inside(init, path, S_ISDIR(st.st_mode), &target);
        if (error == -EISDIR)  /* by mount(2)'s errno, which Docker knows */
            return explain(init, -ENOTDIR, "a file cannot be mounted on a directory");
        if (error)
            return error;
    }
    int error = move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    return error ? explain(init, error, "move_mount") : 0;
}

/* number: 1 for a directory. What is mounted there is mounted by somebody who would follow a link. */
OPERATION(make_mount_point)
{
    const char *path = plan_text(&init->plan, op, 0);
    AUTO_FD found = open_at(AT_FDCWD, path, O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);

    if (found == -ENOENT)
        return make_target_inside(init, path, op->number[0], &found);
    return found < 0 ? explain(init, found, "a link is where the mount was") : 0;
}

/* The absent may stay absent: 0 and -1. Something is going to be mounted there. */
static int open_if_present(struct init *init, const char *path, int *ret_fd)
{
    release_parent(init);
    int fd = open_inside(path, O_PATH);
    if (fd == -ENOENT || fd == -ENOTDIR)
        fd = -1;
    else if (fd < 0)
        return explain(init, fd, "open");
    *ret_fd = fd;
    return 0;
}

/* slot[0]: the null device, slot[1]: an empty read-only directory; the first use attaches the mount itself, later ones a copy: before
 * Linux 6.15 a detached mount cannot be copied, and one that is closed detached keeps who closes it waiting for the kernel's RCU. */
OPERATION(mask_path)
{
    AUTO_FD target = -1;
    struct stat st;
    int error = open_if_present(init, plan_text(&init->plan, op, 0), &target);

    if (error || target < 0)
        return error;
    if (fstat(target, &st) < 0)
        return explain(init, -errno, "stat");
    int which = S_ISDIR(st.st_mode) ? 1 : 0, mask = init->slots[op->slot[which]];
    AUTO_FD copy = init->has_masked[which] ? open_tree(mask, "", AT_EMPTY_PATH | OPEN_TREE_CLONE) : -1;
    if (init->has_masked[which] && copy < 0)
        return explain(init, copy, "copy the mask");
    error = move_mount(copy < 0 ? mask : copy, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (error)
        return explain(init, error, "move_mount");
    init->has_masked[which] = true;
    return 0;
}

OPERATION(protect_path)
{
    AUTO_FD target = -1;
    int error = open_if_present(init, plan_text(&init->plan, op, 0), &target);

    if (error || target < 0)
        return error;
    AUTO_FD copy = open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | AT_RECURSIVE);
    if (copy < 0)
        return explain(init, copy, "copy the mount");
    /* not recursive, as the specification's readonlyPaths: what is mounted below keeps its own flags */
    error = change_attributes(copy, MOUNT_ATTR_RDONLY, 0, 0, false);
    if (error)
        return explain(init, error, "make read-only");
    error = move_mount(copy, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    return error ? explain(init, error, "move_mount") : 0;
}
