#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

/* how the call went in the child; nothing is written where it killed that */
struct outcome {
	long value;
	int error;
};

/* the number and the arguments of NAME[:ARGUMENT...] */
static void parse(const char *arguments, long ret_operands[7])
{
	char name[64] = {0}, *at = name;
	size_t length = strcspn(arguments, ":");
	const struct name *known;

	strncpy(name, arguments, length < sizeof(name) ? length : sizeof(name) - 1);
	known = named(call_names, name);
	ret_operands[0] = known ? known->value : strtol(name, &at, 0);
	if (!known && (*at || at == name)) {
		fprintf(stderr, "probe: no such system call: %s\n", name);
		exit(2);
	}
	arguments += length;
	for (int i = 1; i < 7; i++) {
		ret_operands[i] = -1;
		if (*arguments == ':') {
			ret_operands[i] = (long)strtoull(arguments + 1, &at, 0);
			arguments = at;
		}
	}
}

/*
 * `NAME[:ARGUMENT...]`, in a child. What is not given is -1, no pointer and no descriptor: a call that is let pass to the kernel
 * fails for that reason (EFAULT, EBADF, EINVAL), one that is filtered for another. {"value": n}, {"error": name} or {"signal": name}.
 */
void call(const char *key, const char *rest)
{
	struct outcome outcome = {0};
	long o[7];
	int pipes[2], status;
	ssize_t got;
	pid_t child;

	parse(rest ? rest : "", o);
	if (pipe(pipes)) {
		failed(key, errno);
		return;
	}
	fflush(stdout);
	child = fork();
	if (child < 0) {
		/* not the call's own error */
		begin(key, '{');
		failed("fork", errno);
		end('}');
		return;
	}
	if (!child) {
		outcome.value = syscall(o[0], o[1], o[2], o[3], o[4], o[5], o[6]);
		outcome.error = errno;
		/* where the call was a fork there are two now: the first one's word counts */
		_exit(write(pipes[1], &outcome, sizeof(outcome)) != sizeof(outcome));
	}
	close(pipes[1]);
	got = read(pipes[0], &outcome, sizeof(outcome));
	close(pipes[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (got == sizeof(outcome) && outcome.value == -1) {
		failed(key, outcome.error);
		return;
	}
	begin(key, '{');
	if (got == sizeof(outcome))
		number("value", outcome.value);
	else if (WIFSIGNALED(status))
		text("signal", name_of(signal_names, WTERMSIG(status)));
	else
		number("ended", WEXITSTATUS(status));
	end('}');
}
