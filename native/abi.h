/* The contract between Python and C. cffi and both C halves read this file verbatim, so it holds only
 * declarations, enumerations and integer definitions. */

/* One encoded plan: this header, then the operations (host, child, init), then an arena of strings and lists.
 * Offsets are counted in bytes from the header; 0 means "none". A list is an array of uint64_t offsets, ended by 0.
 * The last byte of a plan is 0. */
struct plan_header {
    uint64_t size;          /* bytes, header included */
    uint32_t host_count;    /* run in the caller before the clone */
    uint32_t child_count;   /* run in the caller after the clone, on the child's pid */
    uint32_t init_count;    /* run in the child by the static init */
    uint32_t host_slots;    /* slots 0 .. host_slots-1 are filled by the host before the clone and given to the child */
    uint32_t late_slots;    /* the next ones by the host after the clone; they are passed by message */
    uint32_t slots;         /* all slots */
    uint32_t preserve_fds;  /* descriptors 3 .. 2+n reach the user program */
    uint32_t given_fds;     /* so many of these, the last ones, are not the caller's of that number but its `descriptors` */
    uint32_t is_relayed;    /* 1: the process with the namespaces and the cgroup is cloned by an init, and not by the caller */
    uint32_t is_traceable;  /* 1: until await_release, since a caller without privileges writes about it only then */
};

#define PLAN_SIZE_LIMIT 16777216
#define PLAN_SLOT_LIMIT 4096
#define SLOTS_PER_MESSAGE 250   /* the kernel passes 253 descriptors at most */
#define PLAN_TEXTS 2
#define PLAN_SLOTS 2
#define PLAN_NUMBERS 5

/* Operands have the order of the fields of the Python class of the same name (pyruntime/plan/operations.py). A
 * bytes or list field takes the next text, a Slot the next slot, an int the next number. */
struct operation {
    uint32_t kind;
    uint32_t text[PLAN_TEXTS];
    int32_t slot[PLAN_SLOTS];   /* -1: none */
    uint32_t reserved;
    uint64_t number[PLAN_NUMBERS];
};

/* What is demanded of a node that is there already, as bits. */
enum node_demand {
    NODE_HAS_MODE = 1,      /* the mode of the operation */
    NODE_HAS_UID = 2,
    NODE_HAS_GID = 4,
    NODE_EXISTS = 8         /* it is there: none is made */
};

/* What of a directory a file system that covers it takes over, as bits. */
enum copy_up { COPY_UP_CONTENTS = 1, COPY_UP_UID = 2, COPY_UP_GID = 4 };

/* From which sets of capabilities CAP_SYS_ADMIN is taken once the filter is installed, as bits. It is raised for that. */
enum filter_revokes {
    FILTER_REVOKES_EFFECTIVE = 1,
    FILTER_REVOKES_PERMITTED = 2
};

/* Whether the user namespace lets groups be set; where it does not, none can be dropped either. NOT_WANTED: the caller's are to stay. */
enum setgroups { SETGROUPS_ALLOWED, SETGROUPS_DENIED, SETGROUPS_MAY_BE_DENIED, SETGROUPS_NOT_WANTED };

/* What comes after a filter was installed. */
enum filter_place { FILTER_BEFORE_START, FILTER_BEFORE_PROGRAM, FILTER_BEFORE_CLONE };

/* How a file that was written is read again. */
enum file_check {
    CHECK_NOTHING,
    CHECK_LINES,            /* for each text there is a line that begins with its first word and has the others */
    CHECK_LINES_ALONE,      /* the same, and the line has no more words */
    CHECK_NOT_OTHERWISE,    /* there is none that begins with a text's first word and lacks one of the others */
    CHECK_CHANGED,          /* CHECK_LINES, or what was written has changed the file; nothing if it cannot be read */
    CHECK_WITHIN,           /* it is a list of numbers as `0-3,7`, and the text's has all of them */
    CHECK_WITHIN_EFFECTIVE  /* the same of the file that has `.effective` behind its name */
};

/* The error of a file that was written and has something else; no errno is as large. */
#define NOT_HELD 4097

enum operation_kind {
    /* host, before the clone */
    OP_MAKE_CGROUP = 1,
    OP_ENABLE_CONTROLLERS,
    OP_WRITE_FILE,
    OP_ATTACH_DEVICE_PROGRAM,
    OP_OWN_CGROUP,
    OP_OPEN_CGROUP,
    OP_OPEN_TASKS,
    OP_OPEN_TREE,           /* or in the init, where the caller may not */
    OP_MAKE_USER_NAMESPACE,
    OP_MAP_MOUNT_IDS,       /* the init, too */
    OP_OPEN_NAMESPACE,
    OP_PASS_DESCRIPTOR,
    OP_LISTEN_FOR_START,
    /* host, on the child's pid */
    OP_WRITE_CHILD_PROC,
    OP_RAISE_HARD_LIMIT,
    OP_MAP_CHILD_IDS,
    OP_RELEASE_CHILD,
    OP_PASS_SLOTS,
    OP_MAP_OFFERED_MOUNT,
    /* init, where it runs */
    OP_SET_AFFINITY,
    OP_SET_MEMORY_POLICY,
    OP_SET_PERSONALITY,
    OP_AWAIT_SCHEDULING,
    /* init */
    OP_RESET_AFFINITY,
    OP_RECEIVE_SLOTS,
    OP_JOIN_CGROUP,
    OP_JOIN_NAMESPACE,
    OP_JOIN_PROCESS_NAMESPACES,
    OP_AWAIT_RELEASE,
    OP_BECOME_NAMESPACE_ROOT,
    OP_UNSHARE_NAMESPACES,
    OP_OPEN_TIME_OFFSETS,
    OP_UNSHARE_TIME_NAMESPACE,
    OP_ENTER_PID_NAMESPACE,
    OP_ISOLATE_PROPAGATION,
    OP_SET_ATTRIBUTES_AT,
    OP_COPY_TREE,
    OP_OFFER_MOUNT,
    OP_OPEN_PROC,
    OP_WRITE_PROC,
    OP_NEW_FILESYSTEM,
    OP_NEW_TMPFS,
    OP_LABEL_FILESYSTEM,
    OP_SET_MOUNT_ATTRIBUTES,
    OP_SET_UNLOCKED_ATTRIBUTES,
    OP_RECONFIGURE_FILESYSTEM,
    OP_COUNT_VERSIONS,
    OP_COPY_UP,
    OP_PIVOT_ROOT,
    OP_SWITCH_ROOT,
    OP_MOUNT_ROOT,
    OP_USE_ROOT,
    OP_OPEN_ROOT_PLACE,
    OP_PLACE_ROOT,
    OP_ENTER_ROOT,
    OP_ATTACH_MOUNT,
    OP_MAKE_DIRECTORY,
    OP_MAKE_MOUNT_POINT,
    OP_MAKE_NODE,
    OP_MAKE_LINK,
    OP_OPEN_CONSOLE,
    OP_START_SESSION,
    OP_MASK_PATH,
    OP_PROTECT_PATH,
    OP_SET_HOSTNAME,
    OP_SET_DOMAINNAME,
    OP_RAISE_LOOPBACK,
    OP_ANNOUNCE_NETWORK,
    OP_JOIN_SESSION_KEYRING,
    OP_ANNOUNCE_HOOKS,
    OP_RUN_HOOK,
    OP_AWAIT_START,
    OP_CHANGE_DIRECTORY,
    OP_SET_RLIMIT,
    OP_OWN_STDIO,
    OP_SET_HOME,
    OP_SET_BOUNDING_CAPABILITIES,
    OP_SET_APPARMOR_PROFILE,
    OP_SET_IDENTITY,
    OP_SET_CAPABILITIES,
    OP_SET_AMBIENT_CAPABILITIES,
    OP_SET_NO_NEW_PRIVILEGES,
    OP_SET_UMASK,
    OP_FIND_PROGRAM,
    OP_INSTALL_FILTER,
    OP_EXECUTE_PROGRAM,
    OP_REFUSE_START,
    OP_END
};

/* What the init tells: on the wire until READY or EXECUTING, afterwards on the connection of the one who starts it. */
enum message_type {
    MESSAGE_FAILURE = 1,    /* operation, error, detail */
    MESSAGE_READY,          /* everything up to await_start is done */
    MESSAGE_CONSOLE,        /* carries the pty master */
    MESSAGE_PROCESS,        /* carries the pidfd of the process that takes init's place in another pid namespace; pid */
    MESSAGE_EXECUTING,      /* the next thing is execve: closing without MESSAGE_FAILURE is success */
    MESSAGE_HOOKS,          /* it waits until the host has run hooks; to who starts it: there are hooks to run */
    MESSAGE_LISTENER,       /* carries the descriptor of a filter; a byte is awaited, that whoever is notified has it */
    MESSAGE_FILTERED,       /* this can still be said */
    MESSAGE_SET_UP,         /* it waits until the host has set when it runs */
    MESSAGE_NETWORK,        /* it is in its network namespace, and waits until the host has put devices there */
    MESSAGE_MOUNT           /* carries a mount that is attached nowhere; it waits until the host has mapped its ids */
};

/* The error of a message about a hook that was executed and failed; no errno is as large. */
#define HOOK_FAILED 4096
#define HOOK_TIMEOUT 0      /* the code of one that did not end in time; others are waitid's si_code */

/* Which hook a failure is about, and how it ended. */
struct hook_end {
    int32_t number;         /* its place in the list of its kind, from 1 on; 0: the failure is not about a hook */
    int32_t code;
    int32_t status;         /* exit code or signal */
};

/* ENOENT of a program that is there: what would run it, an interpreter or a loader, is not. No errno is as large. */
#define NO_LOADER 4098

#define MESSAGE_DETAIL 240

struct message {
    uint32_t type;
    int32_t operation;      /* index into the init operations, -1: before them */
    int32_t error;          /* errno */
    int32_t pid;
    struct hook_end hook;
    int32_t sender;         /* filled in by the receiving kernel: the sender's pid in the receiver's pid namespace */
    uint32_t kind;          /* of the operation that failed; whoever starts a container has no plan to look it up in */
    char detail[MESSAGE_DETAIL];
};

/* Where spawn_process failed. */
enum spawn_phase { SPAWN_HOST = 1, SPAWN_CLONE, SPAWN_CHILD };

struct spawn_result {
    int32_t pid;
    int32_t pidfd;          /* close-on-exec; the caller's */
    int32_t wire;           /* close-on-exec; the caller's */
    int32_t phase;          /* on failure: enum spawn_phase */
    int32_t operation;      /* on failure: index into the phase's operations, -1: none of them */
    char detail[MESSAGE_DETAIL];
};

struct exit_report {
    int32_t code;           /* as waitid's si_code: CLD_EXITED, CLD_KILLED, CLD_DUMPED */
    int32_t status;         /* exit code or signal */
    int32_t has_usage;      /* 0: the three below are not known */
    int32_t reserved;
    int64_t user_microseconds;
    int64_t system_microseconds;
    int64_t peak_kibibytes;
};

/* All return 0 (or what is said) or -errno and release nothing on failure that they were given. */

/* The static init in a sealed memfd: a close-on-exec descriptor. */
int open_init(void);

/* Run the host operations, clone, run the child operations. stdio are the child's 0, 1, 2; preserve_fds of the header
 * are taken from the caller's 3, 4, ...; descriptors are what OP_PASS_DESCRIPTOR passes on, the first given_fds of them also reach the
 * program. On failure the child, if any, is killed and reaped. -EBADFD: init_fd is not the static init.
 * -ETIMEDOUT: it was not executed in time. */
int spawn_process(void *plan, uint64_t size, uint64_t clone_flags, int init_fd, int cgroup_slot, const int *stdio,
                  const int *descriptors, int descriptor_count, int timeout_ms, struct spawn_result *ret_result);

/* Run the host operations of a plan that has no others. On failure ret_result tells which. */
int run_host_plan(void *plan, uint64_t size, struct spawn_result *ret_result);

/* What an init has said so far, and which process it is by now. Begins with everything 0 but pid and the descriptors. */
struct conversation {
    uint32_t said;          /* the types of its messages, as bits: 1 << type */
    int32_t operation;      /* of the last MESSAGE_FAILURE */
    uint32_t kind;
    int32_t error;
    int32_t pid;            /* of the process that was cloned, then of its successor */
    int32_t pidfd;          /* the same; the caller's */
    int32_t console;        /* the pty master; the caller's; -1: none */
    int32_t listener;       /* of a filter; the caller's; -1: none */
    int32_t expects_listener;   /* 1: the caller is told of it at once, and answers with release_process */
    int32_t has_successor;
    uint32_t awaited;       /* types of messages, as bits: one of them ends attend_init as the end of the wire does */
    struct hook_end hook;   /* of the last MESSAGE_FAILURE */
    char detail[MESSAGE_DETAIL];
};

/* What is done about another process that takes the first one's place: nothing, it is believed, it waits until the first one was
 * reaped and is released then, or the same and the caller waits for no more than that. */
enum succession { SUCCESSION_NONE, SUCCESSION_BELIEVED, SUCCESSION_RELEASED, SUCCESSION_AWAITED };

/* Take in what there is to hear, up to a number of messages. 1: the other side has closed, 0: it has not. A successor is believed from
 * the process that was cloned alone: it may be traced itself, and say anything. */
int listen_to_init(int wire, int succession, struct conversation *conversation);

/* The same until the other side closes; with SUCCESSION_AWAITED until there is a successor. The first process is reaped once there
 * is one. 1: so, or there is a listener that is expected, 0: not within timeout_ms (-1: for ever), -EINTR: a signal came in. */
int attend_init(int wire, int succession, int timeout_ms, struct conversation *conversation);

/* Let a process go on that waits for a byte on the wire. */
int release_process(int wire);

/* Let a created container's init go on, by the start socket `name` in a directory, and listen until it has executed its program or
 * says why not; the socket is removed once it did. ret_connection is -1 at first, and holds the connection, for the next call,
 * after 0, -EINTR, and if there is a listener that is expected. 1: the conversation tells, 0: not within timeout_ms, -EINTR: a signal came in, -errno: nobody listens there. */
int start_init(const char *directory, const char *name, int timeout_ms, int *ret_connection, struct conversation *conversation);

/* Where a hook that could not be started failed. */
enum hook_step { HOOK_CLONE, HOOK_DIRECTORY, HOOK_FILTER, HOOK_EXECUTION };

/* A program with its standard streams; of the caller's descriptors it gets no others. */
struct hook {
    const char *path;
    char *const *arguments;
    char *const *environment;
    const char *directory;  /* NULL: the caller's */
    const void *filter;     /* the struct sock_fprog that it is executed under; NULL: the caller's alone */
    uint32_t filter_flags;  /* of seccomp(2) */
    uint32_t raises_admin;  /* 1: installing takes CAP_SYS_ADMIN, which is permitted to the caller */
    int32_t umask;          /* -1: the caller's */
    int32_t input;
    int32_t output;         /* also for errors */
    int32_t pid;            /* its own, and its process group */
    int32_t pidfd;          /* the caller's; also of one that could not be executed, which has to be reaped; -1: none */
    int32_t failed;         /* on failure: enum hook_step */
    int32_t error;
};

/* Execute a hook. Returns once it is executed. */
int start_hook(struct hook *hook);

/* Attributes of sched_setattr(2), without those that the specification does not know. */
struct scheduler {
    uint32_t policy;
    int32_t nice;
    uint64_t flags;
    uint32_t priority;
    uint32_t reserved;
    uint64_t runtime;       /* nanoseconds, as the two below */
    uint64_t deadline;
    uint64_t period;
};

int set_scheduler(int pid, const struct scheduler *scheduler);

/* priority: as ioprio_set(2) has it, the class above the level. */
int set_io_priority(int pid, int priority);

/* When a process began, in clock ticks since boot (proc_pid_stat(5), field 22). */
int64_t read_start_time(int pid);

/* Whether that very process runs: not a zombie, and not another one with its pid. 1, 0 or -errno */
int is_alive(int pid, int64_t start_time);

/* A container's status as far as it is derived from what there is. */
enum container_status { STATUS_CREATED = 1, STATUS_RUNNING, STATUS_PAUSED, STATUS_STOPPED };

/* Whether the init of a pid has not been started: the start socket `name` is in the directory, and the init is the static one still. (One who
 * started it and died before removing the socket leaves it.) */
int awaits_start(const char *directory, const char *name, int pid);

/* Whether a freezer.state or cgroup.freeze says that processes are stopped, or about to be. 1, 0 (also where there is none any more) or
 * -errno */
int is_frozen(const char *path);

/* Of a container whose init that is; freezer: of is_frozen, NULL where it has none. enum container_status or -errno */
int derive_status(const char *directory, const char *name, int pid, int64_t start_time, const char *freezer);

/* A pidfd, close-on-exec. */
int open_pidfd(int pid);
int signal_pidfd(int pidfd, int signal);

/* Block the signals that whoever waits for a process passes on to it: nearly all. A descriptor in which they wait, or -errno. A fault of the
 * caller's own ends it as ever. */
int catch_signals(uint64_t *ret_before);

/* The number of the next one in it, 0: there is none. */
int take_signal(int signals);

/* Close it, and have blocked what was before: what is left in it comes in. */
void release_signals(int signals, uint64_t before);

/* Wait until the process ends (timeout_ms -1: for ever). 1: ended, 0: timeout, -EINTR: a signal came in. */
int poll_pidfd(int pidfd, int timeout_ms);

/* Wait until its parent has reaped it (Linux 6.9). 1: reaped, 0: timeout, -EINTR: a signal came in. */
int poll_reaping(int pidfd, int timeout_ms);

/* Wait for a child's end and reap it. It may be later than poll_pidfd tells it: a tracer comes first. -EINTR: a signal came in,
 * -ECHILD: somebody else reaped it, or it is not ours. */
int reap_pidfd(int pidfd, struct exit_report *ret_report);

/* The status that the kernel keeps for a pidfd (Linux 6.15). -ENOSYS: it does not, -ENODATA: not yet. */
int inspect_pidfd(int pidfd, struct exit_report *ret_report);

/* Detach whatever is mounted at a path of a mount namespace, which the caller does not enter; -ENOENT, -EINVAL: there is
 * nothing. */
int detach_mount(int mount_namespace, const char *path);

/* A netlink socket (NETLINK_ROUTE), close-on-exec, of the network namespace that a process is in, which the caller does not enter. */
int open_netlink(int pidfd);

/* An open pseudoterminal's size in characters. */
int set_terminal_size(int terminal, unsigned int width, unsigned int height);

/* Files. Read one from its beginning: how many bytes, at most size. */
int64_t read_file(const char *path, char *ret_data, uint64_t size);

/* Make or overwrite one (0600); renamed_to (or NULL) is its name then. */
int store_file(const char *path, const char *data, uint64_t size, const char *renamed_to);

/* Lock a directory against others who do: its descriptor, which is closed to unlock. -ESTALE: it was removed meanwhile. */
int lock_directory(const char *path);

/* Remove a directory with the files in it. */
int remove_directory(const char *path);

/* Remove each directory that is empty; paths are one behind the other, each with its NUL. An errno for each, 0 for those removed. */
void remove_empty_directories(const char *paths, int count, int *ret_errors);

/* An O_PATH descriptor of what a path is below a root that is not trusted: its links lead nowhere else. */
int open_in_root(int root, const char *path);

/* Of the embedded init, in bytes. */
extern const uint64_t init_image_size;
