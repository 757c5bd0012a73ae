/* The floor of the benchmark: the kernel work of a default bundle, and nothing besides. See floor.c. */
#ifndef FLOOR_H
#define FLOOR_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FLOOR_CGROUP "pyruntime-floor"
#define MAX_HIERARCHIES 16
#define MAX_STEPS 64

/* Nothing is handled: what fails ends the program, with the line. */
#define MUST(call)                                                                          \
	do {                                                                                \
		if ((call) < 0) {                                                           \
			dprintf(2, "floor: line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
			_exit(125);                                                         \
		}                                                                           \
	} while (0)

/* Where a container's creation spends its time; in memory shared by the parent and the container's init. */
struct steps {
	int count;
	struct {
		char name[24];
		int64_t at_ns;
	} entries[MAX_STEPS];
};

struct hierarchy {
	char mount_point[128];
	bool is_cpuset, is_devices;
	int parent_fd;
};

struct floor {
	const char *rootfs;
	struct hierarchy v1[MAX_HIERARCHIES];
	int v1_count;
	char v2_mount_point[128];
	int v2_parent_fd;   /* -1: no cgroup2 */
	int device_program; /* -1: the v1 hierarchy does it */
	char cpus[256], mems[256];
	int null_fd, self_fd, own_pidns_fd, steps_fd;
	struct steps *steps;
	unsigned next_id;
};

struct container {
	char id[32];
	pid_t pid;
	int pidfd, wire, child_wire;
	int v2_fd; /* -1: no cgroup2 */
	char *program, *argument;
};

void find_hierarchies(struct floor *floor);
void close_hierarchies(struct floor *floor);
int load_device_program(void);
void make_cgroups(struct floor *floor, struct container *container);
void join_v1_cgroups(const struct floor *floor, const char *id);
void remove_cgroups(const struct floor *floor, const char *id);

int64_t now_ns(void);
void note_step(struct steps *steps, const char *name);
void apply_identity(struct steps *steps);
void join_keyring(const char *id);

/* The container's init: argv is "init" ROOTFS ID WIRE STEPS PROGRAM ARGUMENT, and the mount points of the v1 hierarchies. */
enum { INIT_HIERARCHIES = 7 };
int run_init(int argc, char **argv);

extern char *const container_environment[];

#endif
