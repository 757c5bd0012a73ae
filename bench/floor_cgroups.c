/* The cgroups of the floor's containers, on v1, v2 and hybrid hosts. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "floor.h"

enum { ANY = -1 };

/* What runc allows by default, after denying everything. mknod of anything harms nobody: it is the use that counts. */
static const struct {
	const char *v1;
	char type;
	int major, minor;
} device_rules[] = {
	{"b *:* m", 'b', ANY, ANY},	 {"c *:* m", 'c', ANY, ANY},	   {"c 1:3 rwm", 'c', 1, 3},
	{"c 1:5 rwm", 'c', 1, 5},	 {"c 1:7 rwm", 'c', 1, 7},	   {"c 1:8 rwm", 'c', 1, 8},
	{"c 1:9 rwm", 'c', 1, 9},	 {"c 5:0 rwm", 'c', 5, 0},	   {"c 5:2 rwm", 'c', 5, 2},
	{"c 10:200 rwm", 'c', 10, 200}, {"c 136:* rwm", 'c', 136, ANY},
};
enum { DEVICE_RULES = sizeof(device_rules) / sizeof(*device_rules) };

static int open_at(int dir, const char *id, const char *file)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", id, file);
	fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	MUST(fd);
	return fd;
}

static void write_at(int dir, const char *id, const char *file, const char *text)
{
	int fd = open_at(dir, id, file);

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
int load_device_program(void)
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
		bool any_minor = device_rules[i].minor == ANY;

		if (device_rules[i].major == ANY)
			continue; /* mknod, allowed above */
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
		snprintf(floor->v2_mount_point, sizeof(floor->v2_mount_point), "%s", mount_point);
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

void find_hierarchies(struct floor *floor)
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

void make_cgroups(struct floor *floor, struct container *container)
{
	int fd;

	for (struct hierarchy *v1 = floor->v1; v1 < floor->v1 + floor->v1_count; v1++) {
		MUST(mkdirat(v1->parent_fd, container->id, 0755));
		if (v1->is_cpuset) {
			write_at(v1->parent_fd, container->id, "cpuset.cpus", floor->cpus);
			write_at(v1->parent_fd, container->id, "cpuset.mems", floor->mems);
		}
		if (v1->is_devices) {
			write_at(v1->parent_fd, container->id, "devices.deny", "a");
			fd = open_at(v1->parent_fd, container->id, "devices.allow");
			for (int i = 0; i < DEVICE_RULES; i++)
				MUST(write(fd, device_rules[i].v1, strlen(device_rules[i].v1)));
			close(fd);
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

void remove_cgroups(const struct floor *floor, const char *id)
{
	for (int i = 0; i < floor->v1_count; i++)
		MUST(unlinkat(floor->v1[i].parent_fd, id, AT_REMOVEDIR));
	if (floor->v2_parent_fd >= 0)
		MUST(unlinkat(floor->v2_parent_fd, id, AT_REMOVEDIR));
}

void join_v1_cgroups(const struct floor *floor, const char *id)
{
	for (int i = 0; i < floor->v1_count; i++)
		write_at(floor->v1[i].parent_fd, id, "tasks", "0");
}

void close_hierarchies(struct floor *floor)
{
	char path[160];

	for (int i = 0; i < floor->v1_count; i++) {
		snprintf(path, sizeof(path), "%s/" FLOOR_CGROUP, floor->v1[i].mount_point);
		MUST(rmdir(path));
	}
	if (floor->v2_parent_fd >= 0) {
		snprintf(path, sizeof(path), "%s/" FLOOR_CGROUP, floor->v2_mount_point);
		MUST(rmdir(path));
	}
}
