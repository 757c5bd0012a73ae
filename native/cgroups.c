/* The host operations on cgroups: making them, and what they allow. */
#define _GNU_SOURCE
#include "host.h"

#include <dirent.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static ssize_t read_text(int directory, const char *name, char *ret_text, size_t size)
{
    AUTO_FD fd = open_at(directory, name, O_RDONLY, 0, 0);
    ssize_t length = fd < 0 ? fd : read(fd, ret_text, size - 1);

    if (fd >= 0 && length < 0)
        length = -errno;
    if (length >= 0)
        ret_text[length] = 0;
    return length;
}

static const char *const cpuset_files[] = {"cpuset.cpus", "cpuset.mems"};

static bool has_cpuset(int cgroup)
{
    char text[4096];

    for (int i = 0; i < 2; i++)
        if (read_text(cgroup, cpuset_files[i], text, sizeof text) <= 1)
            return false;
    return true;
}

/* A new cpuset has no CPUs and no memory nodes unless its parent says that children inherit: take the parent's, and say so
 * for the children of this one. */
static int inherit_cpuset(int parent, int cgroup)
{
    char text[4096];

    for (int i = 0; i < 2; i++) {
        if (read_text(cgroup, cpuset_files[i], text, sizeof text) > 1)
            continue;
        ssize_t length = read_text(parent, cpuset_files[i], text, sizeof text);
        int error = length < 0 ? (int)length : write_text(cgroup, cpuset_files[i], text);
        if (error)
            return error;
    }
    return 0;
}

/* Whether anything runs in a cgroup or below it: 1, 0 or -errno. Takes the descriptor. */
static int is_populated(int cgroup)
{
    char first;
    AUTO_FD procs = open_at(cgroup, "cgroup.procs", O_RDONLY, 0, 0);
    ssize_t length = procs < 0 ? 0 : read(procs, &first, 1);
    /* a threaded cgroup has no list of processes: there is something in it */
    int found = length > 0 || (length < 0 && errno == EOPNOTSUPP);

    if (procs < 0 && procs != -ENOENT) {
        close(cgroup);
        return procs;
    }
    DIR *entries = fdopendir(cgroup);

    if (!entries) {
        close(cgroup);
        return -errno;
    }
    for (struct dirent *entry; !found && (entry = readdir(entries));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        int below = open_at(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0);
        found = below == -ENOENT ? 0 : below < 0 ? below : is_populated(below);
    }
    closedir(entries);
    return found;
}

/* What is deleted with the container must be its own. */
static int refuse_populated(struct host *host, const char *path)
{
    int cgroup = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, 0);
    int found = cgroup < 0 ? cgroup : is_populated(cgroup);

    if (found > 0)
        return explain(host, -EBUSY, "container's cgroup is not empty", NULL);
    return found ? explain(host, found, "look into", NULL) : 0;
}

/* What is made in it would be frozen too, and never be ready. */
static int refuse_frozen(struct host *host, const char *path)
{
    char text[256];
    AUTO_FD cgroup = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0, 0);
    ssize_t length = cgroup < 0 ? cgroup : read_text(cgroup, "freezer.state", text, sizeof text);

    if (length == -ENOENT && cgroup >= 0)
        length = read_text(cgroup, "cgroup.events", text, sizeof text);
    if (length < 0)
        return explain(host, (int)length, "look whether it is frozen", NULL);
    /* v1 says FROZEN or FREEZING */
    if (strncmp(text, "FR", 2) == 0 || strstr(text, "frozen 1"))
        return explain(host, -EBUSY, "container's cgroup unexpectedly frozen, or one above it", NULL);
    return 0;
}

static int make_cgroup_path(struct host *host, const struct operation *op)
{
    const char *path = plan_text(host->plan, op, 0);
    size_t at = op->number[0], size = strlen(path);
    char prefix[4096];

    if (size >= sizeof prefix || at >= size)
        return explain(host, -ENAMETOOLONG, "make", path);
    memcpy(prefix, path, size + 1);
    /* mostly the parents are there */
    int error = mkdir(path, 0755) == 0 ? 0 : -errno;
    uint64_t refuses_frozen = error == -EEXIST ? op->number[3] : op->number[3] > 1;
    if (error == -EEXIST && (error = op->number[2] ? 0 : refuse_populated(host, path)))
        return error;
    if (!error && refuses_frozen && (error = refuse_frozen(host, path)))
        return error;
    if (!error) {
        AUTO_FD made = op->number[1] ? open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0, 0) : -1;
        if (!op->number[1] || (made >= 0 && has_cpuset(made)))
            return 0;
    }
    prefix[at] = 0;
    AUTO_FD parent = open_at(AT_FDCWD, prefix, O_PATH | O_DIRECTORY, 0, 0);
    if (parent < 0)
        return explain(host, parent, "open", prefix);
    prefix[at] = path[at];
    while (path[at]) {
        size_t begin = at + strspn(path + at, "/"), end = begin + strcspn(path + begin, "/");
        prefix[end] = 0;
        const char *name = prefix + begin;
        if (begin == end)
            break;
        bool made = mkdirat(parent, name, 0755) == 0;
        if (!made && errno != EEXIST)
            return explain(host, -errno, "mkdir", prefix);
        AUTO_FD cgroup = open_at(parent, name, O_PATH | O_DIRECTORY, 0, 0);
        if (cgroup < 0)
            return explain(host, cgroup, "open", prefix);
        if (op->number[1]) {
            error = inherit_cpuset(parent, cgroup);
            if (!error && made && path[end])
                error = write_text(cgroup, "cgroup.clone_children", "1");
            if (error)
                return explain(host, error, "inherit cpuset of", prefix);
        }
        close(parent);
        parent = take_fd(&cgroup);
        prefix[end] = path[end];
        at = end;
    }
    return op->number[3] > 1 ? refuse_frozen(host, path) : 0;
}

/* numbers: length of the hierarchy's mount point in the path, 1 for a v1 cpuset, 1 if processes may be in it, 1 if it may not be frozen
 * where it was there already, 2 in any case
 * A parent may be removed by somebody who finds it empty before its child is made. */
int make_cgroup(struct host *host, const struct operation *op)
{
    int error = 0;

    for (int attempt = 0; attempt < 100; attempt++) {
        error = make_cgroup_path(host, op);
        if (error != -ENOENT && error != -ENODEV)
            break;
    }
    return error;
}

/* Controllers reach a v2 cgroup if every ancestor passes them on. One that cannot be had is no failure here: the write
 * of a limit that needs it then fails and names the file. */
int enable_controllers(struct host *host, const struct operation *op)
{
    const char *path = plan_text(host->plan, op, 0), *wanted = plan_text(host->plan, op, 1);
    char prefix[4096], enabled[1024], padded[1026];
    size_t size = strlen(path);

    if (size >= sizeof prefix || op->number[0] > size)
        return explain(host, -ENAMETOOLONG, "enable controllers in", path);
    memcpy(prefix, path, size + 1);
    for (size_t at = op->number[0]; path[at]; at += 1 + strcspn(path + at + 1, "/")) {
        prefix[at] = 0;
        AUTO_FD cgroup = open_at(AT_FDCWD, prefix, O_PATH | O_DIRECTORY, 0, 0);
        prefix[at] = '/';
        if (cgroup < 0)
            return explain(host, cgroup, "open", prefix);
        ssize_t length = read_text(cgroup, "cgroup.subtree_control", enabled, sizeof enabled);
        if (length < 0)
            return explain(host, (int)length, "read cgroup.subtree_control of", prefix);
        enabled[strcspn(enabled, "\n")] = 0;
        snprintf(padded, sizeof padded, " %s ", enabled);
        for (const char *name = wanted; *name;) {
            char word[64] = " ", command[64] = "+";
            size_t width = strcspn(name, " ");
            if (width > sizeof word - 3)
                return explain(host, -EINVAL, "controller", name);
            memcpy(word + 1, name, width);
            memcpy(command + 1, name, width);
            word[width + 1] = ' ';
            if (!strstr(padded, word))
                (void)write_text(cgroup, "cgroup.subtree_control", command);
            name += width + strspn(name + width, " ");
        }
    }
    return 0;
}

/* For a kernel that does not say: those of cgroup v2 that were there from the beginning (cgroups(7), "Cgroups delegation"). */
static const char delegated[] = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/* numbers: uid. The directory and the files that the kernel lists as to be given with it, as far as the cgroup has them. */
int own_cgroup(struct host *host, const struct operation *op)
{
    char names[4096];
    uid_t uid = (uid_t)op->number[0];
    AUTO_FD cgroup = open_at(AT_FDCWD, plan_text(host->plan, op, 0), O_RDONLY | O_DIRECTORY, 0, 0);

    if (cgroup < 0)
        return explain(host, cgroup, "open", NULL);
    if (read_text(AT_FDCWD, "/sys/kernel/cgroup/delegate", names, sizeof names) <= 0)
        memcpy(names, delegated, sizeof delegated);
    if (fchown(cgroup, uid, (gid_t)-1) < 0)
        return explain(host, -errno, "chown", NULL);
    for (char *name = names, *end; (end = strchr(name, '\n')); name = end + 1) {
        *end = 0;
        if (fchownat(cgroup, name, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
            return explain(host, -errno, "chown", name);
    }
    return 0;
}

/* Tells this runtime's program from systemd's and others' in the same cgroup. */
static const char program_name[BPF_OBJ_NAME_LEN] = "pyruntime";
#define PROGRAMS_MAX 64     /* that a cgroup can have of one type */

static int run_bpf(int command, union bpf_attr *attributes)
{
    return (int)checked(syscall(SYS_bpf, command, attributes, sizeof *attributes));
}

/* Whether it is a program of this runtime's: 1, 0 or -errno. */
static int is_own_program(int program)
{
    struct bpf_prog_info info = {0};
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)program;
    attributes.info.info_len = sizeof info;
    attributes.info.info = (uint64_t)(uintptr_t)&info;
    int error = run_bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes);
    return error < 0 ? error : memcmp(info.name, program_name, sizeof program_name) == 0;
}

/* A descriptor of the program that this runtime has attached; -ENOENT: there is none. */
static int find_program(int cgroup)
{
    union bpf_attr attributes;
    uint32_t ids[PROGRAMS_MAX];

    memset(&attributes, 0, sizeof attributes);
    attributes.query.target_fd = (uint32_t)cgroup;
    attributes.query.attach_type = BPF_CGROUP_DEVICE;
    attributes.query.prog_ids = (uint64_t)(uintptr_t)ids;
    attributes.query.prog_cnt = PROGRAMS_MAX;
    int error = run_bpf(BPF_PROG_QUERY, &attributes);
    if (error < 0)
        return error;
    uint32_t count = attributes.query.prog_cnt;
    for (uint32_t i = 0; i < count; i++) {
        memset(&attributes, 0, sizeof attributes);
        attributes.prog_id = ids[i];
        AUTO_FD program = run_bpf(BPF_PROG_GET_FD_BY_ID, &attributes);
        int is_own = program < 0 ? program : is_own_program(program);
        if (is_own > 0)
            return take_fd(&program);
        /* one may be detached meanwhile */
        if (is_own < 0 && is_own != -ENOENT)
            return is_own;
    }
    return -ENOENT;
}

/* numbers: size of the program, 1 if it takes the place of an earlier one, with no moment between them */
int attach_device_program(struct host *host, const struct operation *op)
{
    union bpf_attr attributes;
    AUTO_FD cgroup = open_at(AT_FDCWD, plan_text(host->plan, op, 0), O_RDONLY | O_DIRECTORY, 0, 0);

    if (cgroup < 0)
        return explain(host, cgroup, "open", NULL);
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attributes.insns = (uint64_t)(uintptr_t)plan_text(host->plan, op, 1);
    attributes.insn_cnt = (uint32_t)(op->number[0] / sizeof(struct bpf_insn));
    attributes.license = (uint64_t)(uintptr_t) "Apache-2.0";
    memcpy(attributes.prog_name, program_name, sizeof program_name);
    AUTO_FD program = run_bpf(BPF_PROG_LOAD, &attributes);
    if (program < 0)
        return explain(host, program, "load the device program", NULL);
    AUTO_FD earlier = op->number[1] ? find_program(cgroup) : -ENOENT;
    if (earlier < 0 && earlier != -ENOENT)
        return explain(host, earlier, "find the device program", NULL);
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)cgroup;
    attributes.attach_bpf_fd = (uint32_t)program;
    attributes.attach_type = BPF_CGROUP_DEVICE;
    attributes.attach_flags = BPF_F_ALLOW_MULTI | (earlier < 0 ? 0 : BPF_F_REPLACE);
    attributes.replace_bpf_fd = earlier < 0 ? 0 : (uint32_t)earlier;
    int error = run_bpf(BPF_PROG_ATTACH, &attributes);
    return error < 0 ? explain(host, error, "attach the device program", NULL) : 0;
}
