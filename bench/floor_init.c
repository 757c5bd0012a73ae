/* The container's side of the floor: from its first instruction to the execution of the program. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "floor.h"

static const uint32_t kept_capabilities = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;

static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static const char *const masked_paths[] = {
	"/proc/acpi",	    "/proc/asound",	 "/proc/kcore",	      "/proc/keys",    "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
};

static const struct {
	const char *path;
	unsigned major, minor;
} devices[] = {
	{"dev/null", 1, 3}, {"dev/zero", 1, 5},	   {"dev/full", 1, 7},
	{"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9},
};

static const struct {
	const char *target, *path;
} links[] = {
	{"/proc/self/fd", "dev/fd"},	     {"/proc/self/fd/0", "dev/stdin"},
	{"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
	{"pts/ptmx", "dev/ptmx"},
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void note_step(struct steps *steps, const char *name)
{
	if (steps->count == MAX_STEPS)
		return;
	strncpy(steps->entries[steps->count].name, name, sizeof(steps->entries[0].name) - 1);
	steps->entries[steps->count++].at_ns = now_ns();
}

/* Neither is in config.json, but runc and crun do both, and a container without a loopback is of little use. */
void join_keyring(const char *id)
{
	MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, id));
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	MUST(fd);
	MUST(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

static void mount_filesystems(struct steps *steps)
{
	const unsigned long quiet = MS_NOSUID | MS_NOEXEC;

	MUST(mount("proc", "proc", "proc", 0, NULL));
	note_step(steps, "proc");
	MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	note_step(steps, "dev");
	MUST(mkdir("dev/pts", 0755));
	MUST(mount("devpts", "dev/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	note_step(steps, "devpts");
	MUST(mkdir("dev/shm", 0755));
	MUST(mount("shm", "dev/shm", "tmpfs", quiet | MS_NODEV, "mode=1777,size=65536k"));
	note_step(steps, "shm");
	MUST(mkdir("dev/mqueue", 0755));
	MUST(mount("mqueue", "dev/mqueue", "mqueue", quiet | MS_NODEV, NULL));
	note_step(steps, "mqueue");
	MUST(mount("sysfs", "sys", "sysfs", quiet | MS_NODEV | MS_RDONLY, NULL));
	note_step(steps, "sysfs");
}

/* v1: a tmpfs with the container's own cgroup of each hierarchy, read-only; v2: what the cgroup namespace shows. */
static void mount_cgroups(const char *id, char **mount_points, struct steps *steps)
{
	const unsigned long quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	const unsigned long bind = MS_BIND | MS_RDONLY | MS_RELATIME | quiet;
	char source[256], target[256];

	if (*mount_points == NULL) {
		MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", quiet | MS_RELATIME | MS_RDONLY, NULL));
		note_step(steps, "cgroup2-mount");
		return;
	}
	MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", quiet, "mode=755"));
	note_step(steps, "cgroup-tmpfs");
	for (; *mount_points; mount_points++) {
		snprintf(source, sizeof(source), "%s/" FLOOR_CGROUP "/%s", *mount_points, id);
		snprintf(target, sizeof(target), "sys/fs/cgroup/%s", strrchr(*mount_points, '/') + 1);
		MUST(mkdir(target, 0755));
		MUST(mount(source, target, NULL, bind, NULL));
		MUST(mount(NULL, target, NULL, bind | MS_REMOUNT, NULL));
	}
	MUST(chmod("sys/fs/cgroup", 0555));
	note_step(steps, "cgroup-binds");
}

static void make_devices(struct steps *steps)
{
	for (size_t i = 0; i < COUNT(devices); i++)
		MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	for (size_t i = 0; i < COUNT(links); i++)
		MUST(symlink(links[i].target, links[i].path));
	note_step(steps, "device-nodes");
}

static void restrict_paths(struct steps *steps)
{
	struct stat status;

	for (size_t i = 0; i < COUNT(readonly_paths); i++) {
		const char *path = readonly_paths[i];

		if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 && errno == ENOENT)
			continue;
		MUST(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	}
	note_step(steps, "readonly-paths");
	for (size_t i = 0; i < COUNT(masked_paths); i++) {
		const char *path = masked_paths[i];

		if (stat(path, &status) < 0 && errno == ENOENT)
			continue;
		if (S_ISDIR(status.st_mode))
			MUST(mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL));
		else
			MUST(mount("/dev/null", path, NULL, MS_BIND, NULL));
	}
	note_step(steps, "masked-paths");
}

static void make_root(const char *rootfs, const char *id, char **mount_points, struct steps *steps)
{
	MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
	note_step(steps, "slave");
	MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	MUST(chdir(rootfs));
	note_step(steps, "bind-root");
	umask(0);
	mount_filesystems(steps);
	mount_cgroups(id, mount_points, steps);
	make_devices(steps);
	umask(022);
	MUST(syscall(SYS_pivot_root, ".", "."));
	note_step(steps, "pivot-root");
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	note_step(steps, "detach-old-root");
	MUST(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	note_step(steps, "readonly-root");
	restrict_paths(steps);
}

void apply_identity(struct steps *steps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = kept_capabilities, .permitted = kept_capabilities}};

	for (unsigned i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (i >= 32 || !(kept_capabilities >> i & 1))
			MUST(prctl(PR_CAPBSET_DROP, i, 0, 0, 0));
	note_step(steps, "bounding-set");
	MUST(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	MUST(syscall(SYS_setgroups, 0, NULL));
	MUST(syscall(SYS_setresgid, 0, 0, 0));
	MUST(syscall(SYS_setresuid, 0, 0, 0));
	MUST(syscall(SYS_capset, &header, data));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	note_step(steps, "identity");
}

int run_init(int argc, char **argv)
{
	if (argc < INIT_HIERARCHIES)
		return 2;

	const char *rootfs = argv[1], *id = argv[2];
	int wire = atoi(argv[3]);
	struct steps *steps = mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[4]), 0);
	char *const program[] = {argv[5], *argv[6] ? argv[6] : NULL, NULL};
	struct rlimit open_files = {.rlim_cur = 1024, .rlim_max = 1024};
	char byte = 0;

	close(atoi(argv[4]));
	MUST(fcntl(wire, F_SETFD, FD_CLOEXEC));
	note_step(steps, "init-executed");
	MUST(setsid());
	join_keyring(id);
	note_step(steps, "keyring");
	raise_loopback();
	note_step(steps, "loopback");
	MUST(sethostname("runc", 4));
	MUST(setrlimit(RLIMIT_NOFILE, &open_files));
	make_root(rootfs, id, argv + INIT_HIERARCHIES, steps);
	apply_identity(steps);

	MUST(write(wire, &byte, 1)); /* created */
	if (read(wire, &byte, 1) != 1)
		return 1;
	MUST(execve(program[0], program, container_environment));
	return 1;
}
