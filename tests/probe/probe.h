/* A static program for containers: each argument is a question, standard output is one JSON object of the answers. */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* json.c: one value at a time, to standard output; key is NULL in a list */
void begin(const char *key, char bracket);
void end(char bracket);
void text(const char *key, const char *value);
void bytes(const char *key, const char *value, size_t size);
void number(const char *key, int64_t value);
void natural(const char *key, uint64_t value);
void truth(const char *key, bool value);
/* {"error": "EPERM"}: of what could not be asked */
void failed(const char *key, int error);

/* names.c: those of the kernel's headers */
struct name {
	const char *text;
	long value;
};
extern const struct name capability_names[], limit_names[], call_names[], errno_names[], signal_names[];
const char *name_of(const struct name *names, long value);
const struct name *named(const struct name *names, const char *text);

/* Each answers the question `key`; `rest` is what follows a colon in it, or NULL. */
typedef void answer(const char *key, const char *rest);
answer ids, caps, rlimits, process, no_new_privs, securebits, dumpable, umask_now, keyring;
answer scheduler, nice_now, io_priority, affinity, personality_now, memory_policy;
answer namespaces, descriptors, environment, cwd, terminal, uname_now, clocks, file, status_line;
answer call, hugepages;

#endif
