/* Identity, capabilities and limits of the user program. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "init.h"

#define CAPABILITIES 64

OPERATION(set_bounding_capabilities)
{
    for (int capability = 0; capability < CAPABILITIES; capability++)
        if (!(op->number[0] >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
            /* beyond the kernel's last one, or the right to do it is missing */
            if (errno == EINVAL && prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0)
                return 0;
            return explain(init, -errno, "PR_CAPBSET_DROP");
        }
    return 0;
}

/* The profile that the next execve changes to. While the init is privileged: a profile of the caller's may let it change only then. */
OPERATION(set_apparmor_profile)
{
    const char *command = plan_text(&init->plan, op, 0);
    AUTO_FD fd = open_at(init->slots[op->slot[0]], "self/attr/apparmor/exec", O_WRONLY, 0,
                         RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);

    if (fd < 0)
        return explain(init, fd, "open the attribute of AppArmor");
    if (write(fd, command, strlen(command)) < 0)
        return explain(init, -errno, errno == ENOENT ? "no such profile is loaded" : "write");
    return 0;
}

/* text: the additional groups as uint32_t; numbers: bytes of it, uid, gid, SETGROUPS_... */
OPERATION(set_identity)
{
    const char *groups = plan_text(&init->plan, op, 0);
    uint64_t uid = op->number[1], gid = op->number[2];

    /* the permitted set survives the change of uid; set_capabilities then takes away what is not granted, and execution takes this back */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return explain(init, -errno, "PR_SET_KEEPCAPS");
    bool sets_groups = op->number[3] != SETGROUPS_DENIED && op->number[3] != SETGROUPS_NOT_WANTED;
    if (sets_groups && syscall(SYS_setgroups, op->number[0] / sizeof(uint32_t), groups) < 0
        && (errno != EPERM || op->number[3] != SETGROUPS_MAY_BE_DENIED || op->number[0]))
        return explain(init, -errno, "setgroups");
    if (syscall(SYS_setresgid, gid, gid, gid) < 0)
        return explain(init, -errno, "setresgid");
    if (syscall(SYS_setresuid, uid, uid, uid) < 0)
        return explain(init, -errno, "setresuid");
    /* the change of uid set it to fs.suid_dumpable, which may be 1 */
    prctl(PR_SET_DUMPABLE, 0);
    return 0;
}

static int get_permitted(uint64_t *ret_permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    *ret_permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    return 0;
}

/* numbers: effective, permitted, inheritable. What this process does not hold cannot be granted; the specification
 * wants that warned of and not refused, so the caller has been told already. */
OPERATION(set_capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    uint64_t held = 0;
    int error = get_permitted(&held);

    if (error)
        return explain(init, error, "capget");
    uint64_t effective = op->number[0] & op->number[1] & held;
    uint64_t permitted = op->number[1] & held;
    uint64_t inheritable = op->number[2] & held;
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return syscall(SYS_capset, &header, data) < 0 ? explain(init, -errno, "capset") : 0;
}

OPERATION(set_ambient_capabilities)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return explain(init, -errno, "PR_CAP_AMBIENT_CLEAR_ALL");
    /* only what is permitted and inheritable can be raised; as above the rest has been warned of */
    for (int capability = 0; capability < CAPABILITIES; capability++)
        if (op->number[0] >> capability & 1
            && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0 && errno != EPERM && errno != EINVAL)
            return explain(init, -errno, "PR_CAP_AMBIENT_RAISE");
    return 0;
}

OPERATION(set_no_new_privileges)
{
    (void)op;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? explain(init, -errno, "PR_SET_NO_NEW_PRIVS") : 0;
}

OPERATION(set_umask)
{
    /* the kernel never refuses it, but a filter that the caller is under may */
    return umask((mode_t)op->number[0]) == (mode_t)-1 ? explain(init, -errno, "umask") : 0;
}

OPERATION(set_rlimit)
{
    struct rlimit64 {
        uint64_t soft, hard;
    } limit = {op->number[1], op->number[2]};

    if (syscall(SYS_prlimit64, 0, op->number[0], &limit, NULL) < 0)
        return explain(init, -errno, "prlimit");
    return 0;
}

/* So that a program that is not root can open its own /dev/stdout again. Only what a terminal or a pipe is: a file of
 * the caller's and the null device stay whose they are. */
OPERATION(own_stdio)
{
    struct stat st;

    for (int fd = 0; fd < 3; fd++) {
        if (fstat(fd, &st) < 0)
            return explain(init, -errno, "stat");
        if ((S_ISFIFO(st.st_mode) || isatty(fd)) && st.st_uid != op->number[0]
            && fchown(fd, (uid_t)op->number[0], (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL && errno != EROFS)
            return explain(init, -errno, "chown");
    }
    return 0;
}

OPERATION(join_session_keyring)
{
    /* no keys in this kernel, or none allowed: nothing of the caller's can be reached by them either */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, plan_text(&init->plan, op, 0)) < 0 && errno != ENOSYS
        && errno != EPERM)
        return explain(init, -errno, "KEYCTL_JOIN_SESSION_KEYRING");
    return 0;
}
