/* The floor of the benchmark: the kernel work of a default bundle, and nothing besides. See floor.c. */
#ifndef FLOOR_H
#define FLOOR_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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

int64_t now_ns(void);
void note_step(struct steps *steps, const char *name);
void apply_identity(struct steps *steps);
void join_keyring(const char *id);

/* The container's init: argv is "init" ROOTFS ID WIRE STEPS PROGRAM ARGUMENT, and the mount points of the v1 hierarchies. */
int run_init(int argc, char **argv);

extern char *const container_environment[];

#endif
