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
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "floor.h"

char *const container_environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"TERM=xterm",
	"HOME=/",
	NULL,
};

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

static void become_init(struct floor *floor, struct container *container)
{
	char wire[12], steps[12];
	char *argv[INIT_HIERARCHIES + MAX_HIERARCHIES + 1] = {
		"init", (char *)floor->rootfs, container->id, wire, steps, container->program, container->argument,
	};

	note_step(floor->steps, "cloned");
	join_v1_cgroups(floor, container->id);
	note_step(floor->steps, "cgroups-joined");
	if (floor->v1_count == 0)
		MUST(unshare(CLONE_NEWCGROUP));
	for (int i = 0; i < floor->v1_count; i++)
		argv[INIT_HIERARCHIES + i] = floor->v1[i].mount_point;
	snprintf(wire, sizeof(wire), "%d", container->child_wire);
	snprintf(steps, sizeof(steps), "%d", floor->steps_fd);
	MUST(dup2(floor->null_fd, 0));
	MUST(dup2(floor->null_fd, 1));
	MUST(fcntl(container->child_wire, F_SETFD, 0));
	MUST(fcntl(floor->steps_fd, F_SETFD, 0));
	MUST(syscall(SYS_execveat, floor->self_fd, "", argv, container_environment, AT_EMPTY_PATH));
}

static void create(struct floor *floor, struct container *container, char *program, char *argument)
{
	int sockets[2];
	char byte;

	floor->steps->count = 0;
	note_step(floor->steps, "begin");
	snprintf(container->id, sizeof(container->id), "%d-%u", (int)getpid(), floor->next_id++);
	make_cgroups(floor, container);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets));
	container->program = program;
	container->argument = argument;
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

	create(floor, &container, "/bin/true", "");
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

static void answer_container(struct floor *floor, struct container *held, bool to_run)
{
	create(floor, held, "/bin/sleep", "1000000");
	if (to_run)
		start(held);
	printf("{\"pid\": %d}\n", held->pid);
}

static void drop(struct floor *floor, struct container *container)
{
	if (container->pid) {
		MUST(kill(container->pid, SIGKILL));
		await_exit(container->pidfd, SIGKILL);
		delete(floor, container);
	}
	puts("{}");
}

static void open_floor(struct floor *floor, const char *rootfs)
{
	floor->rootfs = rootfs;
	floor->v2_parent_fd = -1;
	find_hierarchies(floor);
	floor->device_program = floor->v1_count ? -1 : load_device_program();
	MUST(floor->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC));
	MUST(floor->self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC));
	MUST(floor->own_pidns_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
	MUST(floor->steps_fd = memfd_create("steps", MFD_CLOEXEC));
	MUST(ftruncate(floor->steps_fd, sizeof(*floor->steps)));
	floor->steps = mmap(NULL, sizeof(*floor->steps), PROT_READ | PROT_WRITE, MAP_SHARED, floor->steps_fd, 0);
}

int main(int argc, char **argv)
{
	static struct floor floor;
	static struct container held;
	char line[32];

	if (argc > 2)
		return run_init(argc, argv);
	if (argc != 2)
		return 2;
	open_floor(&floor, argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (strcmp(line, "cycle") == 0 || strcmp(line, "steps") == 0)
			answer_cycle(&floor, line[0] == 's');
		else if (strcmp(line, "create") == 0 || strcmp(line, "run") == 0)
			answer_container(&floor, &held, line[0] == 'r');
		else if (strcmp(line, "exec") == 0)
			answer_exec(&floor, &held);
		else if (strcmp(line, "drop") == 0)
			drop(&floor, &held);
		else
			return 2;
		fflush(stdout);
	}
	drop(&floor, &held);
	close_hierarchies(&floor);
	return 0;
}
