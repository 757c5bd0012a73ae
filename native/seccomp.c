/* Filters of system calls by libseccomp. It is asked for numbers and for the program alone; what a container's filter is to do is decided
 * by the caller, and the init installs it. */
#define _GNU_SOURCE
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plan.h"
#include "abi_filters.h"
#include "syscalls.h"

/* From so many rules on a binary tree is shorter to walk. Up to 2.5.4 the library makes wrong ones of no rules. */
#define RULES_FOR_TREE 32
#define COMPARISONS_MAX 6

uint32_t filter_architecture(const char *name)
{
    return name ? seccomp_arch_resolve_name(name) : seccomp_arch_native();
}

uint32_t filter_library_version(void)
{
    const struct scmp_version *version = seccomp_version();

    return version->major << 16 | version->minor << 8 | version->micro;
}

void resolve_calls(uint32_t architecture, const char *names, int count, int32_t *ret_numbers)
{
    for (int i = 0; i < count; i++, names += strlen(names) + 1)
        ret_numbers[i] = seccomp_syscall_resolve_name_arch(architecture, names);
}

static void release_filter(scmp_filter_ctx *filter)
{
    if (*filter)
        seccomp_release(*filter);
}
#define AUTO_FILTER __attribute__((cleanup(release_filter))) scmp_filter_ctx

int check_architecture(uint32_t architecture)
{
    AUTO_FILTER filter = seccomp_init(SCMP_ACT_ALLOW);

    if (!filter)
        return -ENOMEM;
    int error = seccomp_arch_add(filter, architecture);
    return error == -EEXIST ? 0 : error;
}

static int add_rule(scmp_filter_ctx filter, const struct filter_rule *rule, const struct filter_comparison *comparisons)
{
    struct scmp_arg_cmp conditions[COMPARISONS_MAX];

    if (rule->count > COMPARISONS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < rule->count; i++) {
        const struct filter_comparison *from = &comparisons[rule->first + i];
        conditions[i] = (struct scmp_arg_cmp){from->argument, (enum scmp_compare)from->operator, from->value, from->value_two};
    }
    return seccomp_rule_add_array(filter, rule->action, rule->number, rule->count, conditions);
}

static int64_t export_program(scmp_filter_ctx filter, char *ret_program, uint64_t size)
{
#if SCMP_VER_MAJOR > 2 || (SCMP_VER_MAJOR == 2 && SCMP_VER_MINOR >= 6)
    size_t length = size;
    int error = seccomp_export_bpf_mem(filter, ret_program, &length);
    return error == -ERANGE ? -E2BIG : error ? error : (int64_t)length;
#else
    AUTO_FD fd = memfd_create("pyruntime-filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = seccomp_export_bpf(filter, fd);
    if (error)
        return error;
    int64_t length = lseek(fd, 0, SEEK_END);
    if (length < 0)
        return -errno;
    if ((uint64_t)length > size)
        return -E2BIG;
    ssize_t got = pread(fd, ret_program, (size_t)length, 0);
    return got < 0 ? -errno : got != length ? -EIO : length;
#endif
}

int64_t build_filter(uint32_t default_action, const uint32_t *architectures, int architecture_count, const struct filter_rule *rules,
                     int rule_count, const struct filter_comparison *comparisons, char *ret_program, uint64_t size, int *ret_failed)
{
    AUTO_FILTER filter = seccomp_init(default_action);

    *ret_failed = -1;
    if (!filter)
        return -ENOMEM;
    for (int i = 0; i < architecture_count; i++) {
        int error = seccomp_arch_add(filter, architectures[i]);
        if (error && error != -EEXIST)
            return error;
    }
    if (rule_count > RULES_FOR_TREE)
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (int i = 0; i < rule_count; i++) {
        int error = add_rule(filter, &rules[i], comparisons);
        if (error) {
            *ret_failed = i;
            return error;
        }
    }
    return export_program(filter, ret_program, size);
}
