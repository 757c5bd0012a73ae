#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe.h"

static void four(const char *key, const unsigned ids[3], int fs)
{
	begin(key, '[');
	for (int i = 0; i < 3; i++)
		natural(NULL, ids[i]);
	natural(NULL, (unsigned)fs);
	end(']');
}

/* real, effective, saved, of file systems; and the supplementary groups */
void ids(const char *key, const char *rest)
{
	static unsigned groups[65536];
	unsigned found[3] = {0};
	long count;

	(void)rest;
	begin(key, '{');
	syscall(SYS_getresuid, &found[0], &found[1], &found[2]);
	/* an id that there is not changes nothing, and the old one is returned */
	four("uid", found, (int)syscall(SYS_setfsuid, -1));
	syscall(SYS_getresgid, &found[0], &found[1], &found[2]);
	four("gid", found, (int)syscall(SYS_setfsgid, -1));
	count = syscall(SYS_getgroups, 65536, groups);
	begin("groups", '[');
	for (long i = 0; i < count; i++)
		natural(NULL, groups[i]);
	end(']');
	end('}');
}

static void capability_set(const char *key, uint64_t mask)
{
	begin(key, '[');
	for (int i = 0; i < 64; i++) {
		const char *name = name_of(capability_names, i);

		if (!(mask >> i & 1))
			continue;
		if (name)
			text(NULL, name);
		else
			number(NULL, i);
	}
	end(']');
}

void caps(const char *key, const char *rest)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	uint64_t bounding = 0, ambient = 0;

	(void)rest;
	if (syscall(SYS_capget, &header, data)) {
		failed(key, errno);
		return;
	}
	for (int i = 0; i < 64; i++) {
		bounding |= (uint64_t)(prctl(PR_CAPBSET_READ, i) == 1) << i;
		ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) << i;
	}
	begin(key, '{');
	capability_set("bounding", bounding);
	capability_set("effective", (uint64_t)data[1].effective << 32 | data[0].effective);
	capability_set("permitted", (uint64_t)data[1].permitted << 32 | data[0].permitted);
	capability_set("inheritable", (uint64_t)data[1].inheritable << 32 | data[0].inheritable);
	capability_set("ambient", ambient);
	end('}');
}

/* soft and hard, RLIM_INFINITY as 2^64-1 */
void rlimits(const char *key, const char *rest)
{
	(void)rest;
	begin(key, '{');
	for (const struct name *limit = limit_names; limit->text; limit++) {
		uint64_t values[2];

		if (syscall(SYS_prlimit64, 0, limit->value, NULL, values))
			continue;
		begin(limit->text, '[');
		natural(NULL, values[0]);
		natural(NULL, values[1]);
		end(']');
	}
	end('}');
}

void process(const char *key, const char *rest)
{
	int death = -1;

	(void)rest;
	prctl(PR_GET_PDEATHSIG, &death);
	begin(key, '{');
	number("pid", getpid());
	number("parent", getppid());
	number("group", getpgrp());
	number("session", getsid(0));
	number("death_signal", death);
	end('}');
}

static void of_prctl(const char *key, int option)
{
	int value = prctl(option, 0, 0, 0, 0);

	if (value < 0)
		failed(key, errno);
	else
		number(key, value);
}

void no_new_privs(const char *key, const char *rest)
{
	(void)rest;
	of_prctl(key, PR_GET_NO_NEW_PRIVS);
}

void securebits(const char *key, const char *rest)
{
	(void)rest;
	of_prctl(key, PR_GET_SECUREBITS);
}

void dumpable(const char *key, const char *rest)
{
	(void)rest;
	of_prctl(key, PR_GET_DUMPABLE);
}

void umask_now(const char *key, const char *rest)
{
	mode_t mask = umask(0);

	(void)rest;
	umask(mask);
	natural(key, mask);
}

/* the session's: its serial number, and "type;uid;gid;permissions;description" */
void keyring(const char *key, const char *rest)
{
	char description[256];
	long size, serial = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);

	(void)rest;
	if (serial < 0) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	number("serial", serial);
	size = syscall(SYS_keyctl, KEYCTL_DESCRIBE, serial, description, sizeof(description));
	if (size > 0 && (size_t)size <= sizeof(description))
		bytes("description", description, (size_t)size - 1);
	end('}');
}
