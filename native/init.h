/* What the files of the static init share. Between the clone and the user program nothing allocates, locks or
 * buffers: every operand was encoded before, and everything that changes is in one struct on main's stack. */
#ifndef PYRUNTIME_INIT_H
#define PYRUNTIME_INIT_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/close_range.h>

#include "plan.h"
#include "syscalls.h"

struct init {
    struct plan plan;
    int wire;               /* to the creator, later to the one who starts; -1: nobody listens */
    int first_fd;           /* descriptors from here on are the init's own */
    int slots[PLAN_SLOT_LIMIT];
    int parent;             /* hold_parent's; -1: none */
    const char *parent_path;
    size_t parent_length;
    struct hook_end hook;   /* the one that is running */
    bool has_masked[2];     /* with the null device, with the directory */
    bool is_in_chroot;      /* above the root is the rest of the caller's mount namespace */
    bool is_announced, is_sealed, is_wire_alone;
    bool is_traceable;      /* until await_release */
    bool has_found;         /* the program */
    bool is_filtered;
    const char *home;
    char home_text[256 + 8];
    char detail[MESSAGE_DETAIL];
};

/* Say what an operation was doing when it failed; returns error for `return explain(...)`. */
int explain(struct init *init, int error, const char *doing);
/* The same with an object, as in «open target '/etc'». */
int explain_path(struct init *init, int error, const char *doing, const char *path);

int send_message(int wire, const struct message *message, int fd);

/* Leave the program no descriptor of the init's, once; say also that it is next, once. */
int seal_descriptors(struct init *init);
int announce_execution(struct init *init);
/* To a list of the plan's, which has a place for that: HOME, if it was looked for. */
void add_home(const struct init *init, char **environment);
/* Also where a filter forbids that. */
_Noreturn void end_process(int status);
/* Close all but the wire and what the program gets, once. */
int keep_wire_alone(struct init *init);
/* The same, but for the socket that await_start waits on. */
int keep_start_socket(struct init *init);

/* A byte of the caller's. */
int await_byte(struct init *init);

/* paths.c: the container's root is the current directory of AT_FDCWD and "/" when these are used. */
int open_inside(const char *path, uint64_t flags);
int make_directory_inside(struct init *init, const char *path, unsigned int mode, int *ret_fd);
int make_file_inside(struct init *init, const char *path, int *ret_fd);
/* The directory of a path, made if missing, and the last component. It stays open for the next path in it, since most
 * mounts, nodes and links go to few directories; path must outlive it, as the plan's texts do. */
int hold_parent(struct init *init, const char *path, const char **ret_name);
/* Whoever mounts where the held directory or one above it may be lets it go. */
void release_parent(struct init *init);
/* What a mount is to be attached to, made if missing. */
int make_target_inside(struct init *init, const char *path, bool directory, int *ret_fd);

struct sock_fprog;
/* The program of OP_INSTALL_FILTER; -EBADMSG: it is none. */
int filter_of(const struct init *init, const struct operation *op, struct sock_fprog *ret_program);

/* One function an operation, in the files by subject. */
#define OPERATION(name) int name(struct init *init, const struct operation *op)
OPERATION(set_affinity);
OPERATION(set_memory_policy);
OPERATION(set_personality);
OPERATION(await_scheduling);
OPERATION(open_tree_inside);
OPERATION(reset_affinity);
OPERATION(receive_slots);
OPERATION(join_cgroup);
OPERATION(join_namespace);
OPERATION(join_process_namespaces);
OPERATION(await_release);
OPERATION(become_namespace_root);
OPERATION(unshare_namespaces);
OPERATION(open_time_offsets);
OPERATION(unshare_time_namespace);
OPERATION(enter_pid_namespace);
OPERATION(isolate_propagation);
OPERATION(set_attributes_at);
OPERATION(copy_tree_inside);
OPERATION(offer_mount);
OPERATION(open_proc);
OPERATION(write_proc);
OPERATION(new_filesystem);
OPERATION(new_tmpfs);
OPERATION(label_filesystem);
OPERATION(apply_mount_attributes);
OPERATION(apply_unlocked_attributes);
OPERATION(map_mount_ids);
OPERATION(reconfigure_filesystem);
OPERATION(count_versions);
OPERATION(copy_up);
OPERATION(change_to_pivot_root);
OPERATION(switch_root);
OPERATION(mount_root);
OPERATION(use_root);
OPERATION(open_root_place);
OPERATION(place_root);
OPERATION(enter_root);
OPERATION(attach_mount);
OPERATION(make_directory);
OPERATION(make_mount_point);
OPERATION(make_node);
OPERATION(make_link);
OPERATION(open_console);
OPERATION(start_session);
OPERATION(mask_path);
OPERATION(protect_path);
OPERATION(set_hostname);
OPERATION(set_domainname);
OPERATION(raise_loopback);
OPERATION(announce_network);
OPERATION(join_session_keyring);
OPERATION(announce_hooks);
OPERATION(run_hook);
OPERATION(await_start);
OPERATION(change_directory);
OPERATION(set_rlimit);
OPERATION(own_stdio);
OPERATION(set_home);
OPERATION(set_bounding_capabilities);
OPERATION(set_apparmor_profile);
OPERATION(set_identity);
OPERATION(set_capabilities);
OPERATION(set_ambient_capabilities);
OPERATION(set_no_new_privileges);
OPERATION(set_umask);
OPERATION(find_program);
OPERATION(install_filter);
OPERATION(execute_program);
OPERATION(refuse_start);

#endif
