#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe.h"

/* sched_setattr(2); the C library has none */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t clamp_min, clamp_max;
};

void scheduler(const char *key, const char *rest)
{
	struct attributes found = {0};

	(void)rest;
	if (syscall(SYS_sched_getattr, 0, &found, sizeof(found), 0)) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	natural("policy", found.policy);
	natural("flags", found.flags);
	number("nice", found.nice);
	natural("priority", found.priority);
	natural("runtime", found.runtime);
	natural("deadline", found.deadline);
	natural("period", found.period);
	end('}');
}

void nice_now(const char *key, const char *rest)
{
	long value = syscall(SYS_getpriority, 0, 0);

	(void)rest;
	if (value < 0)
		failed(key, errno);
	else
		number(key, 20 - value);
}

void io_priority(const char *key, const char *rest)
{
	long value = syscall(SYS_ioprio_get, 1, 0);

	(void)rest;
	if (value < 0) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	number("class", value >> 13);
	number("level", value & 7);
	end('}');
}

/* processors that it may run on */
void affinity(const char *key, const char *rest)
{
	long size = -1;
	unsigned char *mask = NULL;

	(void)rest;
	for (size_t room = 128; size < 0 && room <= 1 << 20; room *= 2) {
		free(mask);
		mask = calloc(1, room);
		size = syscall(SYS_sched_getaffinity, 0, room, mask);
	}
	if (size < 0) {
		failed(key, errno);
		return;
	}
	begin(key, '[');
	for (long i = 0; i < size * 8; i++)
		if (mask[i / 8] >> (i % 8) & 1)
			number(NULL, i);
	end(']');
	free(mask);
}

void personality_now(const char *key, const char *rest)
{
	long value = syscall(SYS_personality, 0xffffffff);

	(void)rest;
	if (value < 0)
		failed(key, errno);
	else
		number(key, value);
}

void memory_policy(const char *key, const char *rest)
{
	unsigned long nodes[64] = {0};
	int mode = 0;

	(void)rest;
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, 0, 0)) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	number("mode", mode & 0xff);
	number("flags", mode & ~0xff);
	begin("nodes", '[');
	for (size_t i = 0; i < sizeof(nodes) * 8; i++)
		if (nodes[i / 64] >> (i % 64) & 1)
			natural(NULL, i);
	end(']');
	end('}');
}
