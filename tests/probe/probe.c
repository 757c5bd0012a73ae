#include <stdio.h>
#include <string.h>

#include "probe.h"

static const struct {
	const char *question;
	answer *answer;
	const char *rest;
} table[] = {
	{"ids", ids, NULL},
	{"caps", caps, NULL},
	{"rlimits", rlimits, NULL},
	{"process", process, NULL},
	{"no_new_privs", no_new_privs, NULL},
	{"securebits", securebits, NULL},
	{"dumpable", dumpable, NULL},
	{"umask", umask_now, NULL},
	{"keyring", keyring, NULL},
	{"scheduler", scheduler, NULL},
	{"nice", nice_now, NULL},
	{"io_priority", io_priority, NULL},
	{"affinity", affinity, NULL},
	{"personality", personality_now, NULL},
	{"memory_policy", memory_policy, NULL},
	{"namespaces", namespaces, NULL},
	{"descriptors", descriptors, NULL},
	{"environment", environment, NULL},
	{"cwd", cwd, NULL},
	{"terminal", terminal, NULL},
	{"uname", uname_now, NULL},
	{"clocks", clocks, NULL},
	{"mounts", file, "/proc/self/mountinfo"},
	{"cgroups", file, "/proc/self/cgroup"},
	{"oom_score_adj", file, "/proc/self/oom_score_adj"},
	{"time_offsets", file, "/proc/self/timens_offsets"},
	{"uid_map", file, "/proc/self/uid_map"},
	{"gid_map", file, "/proc/self/gid_map"},
	{"setgroups", file, "/proc/self/setgroups"},
	{"apparmor", file, "/proc/self/attr/apparmor/current"},
	{"label", file, "/proc/self/attr/current"},
	{"seccomp", status_line, "Seccomp"},
	{"filters", status_line, "Seccomp_filters"},
	{"blocked", status_line, "SigBlk"},
	{"ignored", status_line, "SigIgn"},
	/* these say after a colon what they ask for */
	{"file", file, NULL},
	{"status", status_line, NULL},
	{"syscall", call, NULL},
	{"hugepages", hugepages, NULL},
};

static int ask(const char *question)
{
	size_t length = strcspn(question, ":");

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		if (strlen(table[i].question) != length || strncmp(table[i].question, question, length))
			continue;
		table[i].answer(question, question[length] ? question + length + 1 : table[i].rest);
		return 0;
	}
	fprintf(stderr, "probe: no such question: %s\n", question);
	return 2;
}

int main(int argc, char **argv)
{
	int status = 0;

	begin(NULL, '{');
	for (int i = 1; i < argc; i++)
		status |= ask(argv[i]);
	end('}');
	putchar('\n');
	return fflush(stdout) ? 1 : status;
}
