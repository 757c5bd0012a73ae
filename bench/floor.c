/* The floor: what the kernel itself takes for a container of the default bundle, driven by as little code as possible.
 *
 * Per container: a cgroup in every v1 hierarchy (and the v2 one), the device rules that runc writes, clone3 into new
 * pid, net, ipc, uts and mnt namespaces, the mounts, devices, links, masks and limits of the bundle, pivot_root,
 * capabilities; then it waits (created), executes /bin/true (started), exits (waited for), and its cgroups are removed
 * (deleted). No JSON, no state on disk, no hostile root file system, no messages. `python -m bench --check` compares
 * the result with what runc makes of the same bundle.
 *
 * Of the ways tried these were the fastest: joining v1 cgroups by the child's writing "0" to `tasks`, and the v2 one by
 * CLONE_INTO_CGROUP (any other way takes the migration lock: 10 ms on an idle machine); clone3 with VM and VFORK and the
 * execution of this static program, which costs the same however large the parent is (a fork of a small parent takes as
 * long); mount(2) (the descriptor-based calls take 2 % more of the cycle).
 *
 * floor ROOTFS     answers one JSON line, times in nanoseconds, to each line on standard input:
 *     cycle        create, start, wait, delete
 *     steps        the same, with the time of each step of create
 *     create       a container that waits to be started; its pid
 *     run          a container with /bin/sleep in it; its pid
 *     exec         /bin/true in the container of `run`
 *     drop         kill and delete the container of `create` or `run`
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "floor.h"

struct hierarchy {
	char mount_point[128];
	bool is_cpuset, is_devices;
	int parent_fd;
};

struct floor {
	const char *rootfs;
	struct hierarchy v1[MAX_HIERARCHIES];
	int v1_count;
	int v2_parent_fd; /* -1: no cgroup2 */
	int device_program; /* -1: the v1 hierarchy does it */
	char cpus[256], mems[256];
	int null_fd, self_fd, own_pidns_fd, steps_fd;
	struct steps *steps;
	unsigned next_id;
};

struct container {
	char id[16];
	pid_t pid;
	int pidfd, wire, child_wire, v2_fd;
};

char *const container_environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};

/* What runc allows by default, after denying everything. -1 stands for any minor number. */
static const struct {
	const char *v1;
	int major, minor;
} device_rules[] = {
	{"c 1:3 rwm", 1, 3}, {"c 1:5 rwm", 1, 5}, {"c 1:7 rwm", 1, 7},	     {"c 1:8 rwm", 1, 8},	{"c 1:9 rwm", 1, 9},
	{"c 5:0 rwm", 5, 0}, {"c 5:2 rwm", 5, 2}, {"c 10:200 rwm", 10, 200}, {"c 136:* rwm", 136, -1},
};
enum { DEVICE_RULES = sizeof(device_rules) / sizeof(*device_rules) };

static void write_at(int dir, const char *id, const char *file, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", id, file);
	fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	MUST(fd);
	MUST(write(fd, text, strlen(text)));
	close(fd);
}

static void read_at(int dir, const char *path, char *text, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	MUST(fd);
	length = read(fd, text, size - 1);
	MUST(length);
	text[length] = 0;
	close(fd);
}

/* BPF_PROG_TYPE_CGROUP_DEVICE with the same rules: mknod of anything, everything for the devices of the table. */
static int load_device_program(void)
{
#define INSN(c, d, s, o, i) (struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)}
#define LOAD(d, o) INSN(BPF_LDX | BPF_MEM | BPF_W, d, 1, o, 0)
#define SKIP_UNLESS_EQUAL(d, i, o) INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, i)
#define RETURN(i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, i), INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
	struct bpf_insn code[16 + 4 * DEVICE_RULES] = {
		LOAD(2, 0), LOAD(3, 0), LOAD(4, 4), LOAD(5, 8),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, 3, 0, 0, BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE),
		SKIP_UNLESS_EQUAL(3, 0, 2), RETURN(1),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 2, BPF_DEVCG_DEV_CHAR), RETURN(0),
	};
	struct bpf_insn allow[] = {RETURN(1)}, deny[] = {RETURN(0)};
	int count = 13, fd;

	for (int i = 0; i < DEVICE_RULES; i++) {
		bool any_minor = device_rules[i].minor < 0;

		code[count++] = SKIP_UNLESS_EQUAL(4, device_rules[i].major, any_minor ? 2 : 3);
		if (!any_minor)
			code[count++] = SKIP_UNLESS_EQUAL(5, device_rules[i].minor, 2);
		memcpy(code + count, allow, sizeof(allow));
		count += 2;
	}
	memcpy(code + count, deny, sizeof(deny));
	count += 2;

	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)code, .insn_cnt = count, .license = (uintptr_t)"MIT",
	};
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	MUST(fd);
	return fd;
}

static void enable_controllers(int dir)
{
	char controllers[256], change[260], *rest, *name;

	read_at(dir, "cgroup.controllers", controllers, sizeof(controllers));
	for (name = strtok_r(controllers, " \n", &rest); name; name = strtok_r(NULL, " \n", &rest)) {
		snprintf(change, sizeof(change), "+%s", name);
		write_at(dir, ".", "cgroup.subtree_control", change);
	}
}

static void add_hierarchy(struct floor *floor, const char *mount_point, bool is_v2, const char *options)
{
	struct hierarchy *v1 = &floor->v1[floor->v1_count];
	int root = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC), parent;

	MUST(root);
	if (mkdirat(root, FLOOR_CGROUP, 0755) < 0 && errno != EEXIST)
		MUST(-1);
	parent = openat(root, FLOOR_CGROUP, O_PATH | O_DIRECTORY | O_CLOEXEC);
	MUST(parent);
	if (is_v2) {
		floor->v2_parent_fd = parent;
		enable_controllers(root);
		enable_controllers(parent);
	} else if (floor->v1_count < MAX_HIERARCHIES) {
		floor->v1_count++;
		snprintf(v1->mount_point, sizeof(v1->mount_point), "%s", mount_point);
		v1->is_cpuset = strstr(options, "cpuset") != NULL;
		v1->is_devices = strstr(options, "devices") != NULL;
		v1->parent_fd = parent;
		if (v1->is_cpuset) {
			read_at(root, "cpuset.cpus", floor->cpus, sizeof(floor->cpus));
			read_at(root, "cpuset.mems", floor->mems, sizeof(floor->mems));
			write_at(parent, ".", "cpuset.cpus", floor->cpus);
			write_at(parent, ".", "cpuset.mems", floor->mems);
		}
	}
	close(root);
}

static void find_hierarchies(struct floor *floor)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[4096], mount_point[128], type[32], options[256];

	if (mounts == NULL)
		MUST(-1);
	while (fgets(line, sizeof(line), mounts)) {
		const char *dash = strstr(line, " - ");

		if (dash && sscanf(line, "%*s %*s %*s %*s %127s", mount_point) == 1 &&
		    sscanf(dash + 3, "%31s %*s %255s", type, options) == 2 && strncmp(type, "cgroup", 6) == 0)
			add_hierarchy(floor, mount_point, strcmp(type, "cgroup2") == 0, options);
	}
	fclose(mounts);
}

static void make_cgroups(struct floor *floor, struct container *container)
{
	for (struct hierarchy *v1 = floor->v1; v1 < floor->v1 + floor->v1_count; v1++) {
		MUST(mkdirat(v1->parent_fd, container->id, 0755));
		if (v1->is_cpuset) {
			write_at(v1->parent_fd, container->id, "cpuset.cpus", floor->cpus);
			write_at(v1->parent_fd, container->id, "cpuset.mems", floor->mems);
		}
		if (v1->is_devices) {
			write_at(v1->parent_fd, container->id, "devices.deny", "a");
			write_at(v1->parent_fd, container->id, "devices.allow", "b *:* m");
			write_at(v1->parent_fd, container->id, "devices.allow", "c *:* m");
			for (int i = 0; i < DEVICE_RULES; i++)
				write_at(v1->parent_fd, container->id, "devices.allow", device_rules[i].v1);
		}
		note_step(floor->steps, strrchr(v1->mount_point, '/') + 1);
	}
	container->v2_fd = -1;
	if (floor->v2_parent_fd >= 0) {
		MUST(mkdirat(floor->v2_parent_fd, container->id, 0755));
		container->v2_fd = openat(floor->v2_parent_fd, container->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		MUST(container->v2_fd);
	}
	if (floor->device_program >= 0) {
		union bpf_attr attr = {
			.target_fd = container->v2_fd, .attach_bpf_fd = floor->device_program, .attach_type = BPF_CGROUP_DEVICE,
		};
		MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)));
	}
	note_step(floor->steps, "cgroup2");
}

static void remove_cgroups(const struct floor *floor, const char *id)
{
	for (int i = 0; i < floor->v1_count; i++)
		MUST(unlinkat(floor->v1[i].parent_fd, id, AT_REMOVEDIR));
	if (floor->v2_parent_fd >= 0)
		MUST(unlinkat(floor->v2_parent_fd, id, AT_REMOVEDIR));
}

static void join_v1_cgroups(const struct floor *floor, const char *id)
{
	for (int i = 0; i < floor->v1_count; i++)
		write_at(floor->v1[i].parent_fd, id, "tasks", "0");
}

/* Run child(floor, container) in a process that borrows this one's memory until it has executed something. */
static pid_t spawn(struct floor *floor, struct container *container, uint64_t namespaces,
		   void (*child)(struct floor *, struct container *), int *ret_pidfd)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	struct clone_args args = {.flags = namespaces | CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (uintptr_t)ret_pidfd};
	long pid;

	if (container->v2_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = container->v2_fd;
	}
#ifdef __x86_64__
	args.flags |= CLONE_VM | CLONE_VFORK;
	args.stack = (uintptr_t)stack;
	args.stack_size = sizeof(stack);
	register struct floor *first __asm__("r12") = floor;
	register struct container *second __asm__("r13") = container;
	register void (*function)(struct floor *, struct container *) __asm__("r14") = child;
	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\t"
			 "mov %%r12, %%rdi\n\tmov %%r13, %%rsi\n\tcall *%%r14\n\thlt\n1:"
			 : "=a"(pid)
			 : "0"((long)SYS_clone3), "D"(&args), "S"(sizeof(args)), "r"(first), "r"(second), "r"(function)
			 : "rcx", "r11", "memory", "cc");
	if (pid < 0) {
		errno = (int)-pid;
		pid = -1;
	}
#else
	(void)stack;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		child(floor, container);
#endif
	MUST(pid);
	return (pid_t)pid;
}

static char *program = "/bin/true", *program_argument = "";

static void become_init(struct floor *floor, struct container *container)
{
	char wire[12], steps[12], *argv[FLOOR_ARGV] = {"init", (char *)floor->rootfs, container->id, wire, steps, program, program_argument};

	note_step(floor->steps, "cloned");
	join_v1_cgroups(floor, container->id);
	note_step(floor->steps, "cgroups-joined");
	if (floor->v1_count == 0)
		MUST(unshare(CLONE_NEWCGROUP));
	for (int i = 0; i < floor->v1_count; i++)
		argv[FLOOR_FIRST_HIERARCHY + i] = floor->v1[i].mount_point;
	snprintf(wire, sizeof(wire), "%d", container->child_wire);
	snprintf(steps, sizeof(steps), "%d", floor->steps_fd);
	MUST(dup2(floor->null_fd, 0));
	MUST(dup2(floor->null_fd, 1));
	MUST(fcntl(container->child_wire, F_SETFD, 0));
	MUST(fcntl(floor->steps_fd, F_SETFD, 0));
	MUST(syscall(SYS_execveat, floor->self_fd, "", argv, container_environment, AT_EMPTY_PATH));
}

static void create(struct floor *floor, struct container *container)
{
	int sockets[2];
	char byte;

	floor->steps->count = 0;
	note_step(floor->steps, "begin");
	snprintf(container->id, sizeof(container->id), "%u", floor->next_id++);
	make_cgroups(floor, container);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets));
	container->wire = sockets[0];
	container->child_wire = sockets[1];
	container->pid = spawn(floor, container, CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS,
			       become_init, &container->pidfd);
	close(sockets[1]);
	MUST(read(container->wire, &byte, 1) - 1);
}

static void start(struct container *container)
{
	char byte = 0;

	MUST(write(container->wire, &byte, 1));
	MUST(read(container->wire, &byte, 1)); /* the end of file: executed */
}

static void await_exit(int pidfd, int expected)
{
	siginfo_t info = {0};

	MUST(waitid(P_PIDFD, pidfd, &info, WEXITED));
	MUST(info.si_status == expected ? 0 : -1);
	close(pidfd);
}

static void delete(const struct floor *floor, struct container *container)
{
	close(container->wire);
	if (container->v2_fd >= 0)
		close(container->v2_fd);
	remove_cgroups(floor, container->id);
	container->pid = 0;
}

static void answer_cycle(struct floor *floor, bool with_steps)
{
	struct container container;
	int64_t at[5] = {now_ns()};

	create(floor, &container);
	at[1] = now_ns();
	start(&container);
	at[2] = now_ns();
	await_exit(container.pidfd, 0);
	at[3] = now_ns();
	delete(floor, &container);
	at[4] = now_ns();
	printf("{\"create\": %lld, \"start\": %lld, \"wait\": %lld, \"delete\": %lld, \"cycle\": %lld", (long long)(at[1] - at[0]),
	       (long long)(at[2] - at[1]), (long long)(at[3] - at[2]), (long long)(at[4] - at[3]), (long long)(at[4] - at[0]));
	for (int i = 1; with_steps && i < floor->steps->count; i++)
		printf("%s\"%s\": %lld", i == 1 ? ", \"steps\": {" : ", ", floor->steps->entries[i].name,
		       (long long)(floor->steps->entries[i].at_ns - floor->steps->entries[i - 1].at_ns));
	puts(with_steps ? "}}" : "}");
}

static void become_process(struct floor *floor, struct container *container)
{
	struct rlimit open_files = {.rlim_cur = 1024, .rlim_max = 1024};
	char *const argv[] = {"/bin/true", NULL};

	join_v1_cgroups(floor, container->id);
	MUST(setsid());
	join_keyring(container->id);
	MUST(syscall(SYS_setns, container->pidfd,
		     CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWNS | (floor->v1_count ? 0 : CLONE_NEWCGROUP)));
	MUST(chdir("/"));
	MUST(setrlimit(RLIMIT_NOFILE, &open_files));
	MUST(dup2(floor->null_fd, 0));
	MUST(dup2(floor->null_fd, 1));
	apply_identity(floor->steps);
	MUST(execve(argv[0], argv, container_environment));
}

static void answer_exec(struct floor *floor, struct container *container)
{
	int64_t at[3] = {now_ns()};
	int pidfd = -1;

	floor->steps->count = 0;
	MUST(syscall(SYS_setns, container->pidfd, CLONE_NEWPID));
	spawn(floor, container, 0, become_process, &pidfd);
	MUST(syscall(SYS_setns, floor->own_pidns_fd, CLONE_NEWPID));
	at[1] = now_ns();
	await_exit(pidfd, 0);
	at[2] = now_ns();
	printf("{\"exec\": %lld, \"wait\": %lld, \"cycle\": %lld}\n", (long long)(at[1] - at[0]), (long long)(at[2] - at[1]),
	       (long long)(at[2] - at[0]));
}

static void drop(struct floor *floor, struct container *container)
{
	if (container->pid == 0)
		return;
	MUST(kill(container->pid, SIGKILL));
	await_exit(container->pidfd, SIGKILL);
	delete(floor, container);
}
