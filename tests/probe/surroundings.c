#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

extern char **environ;

/* the inode number by the name in /proc/self/ns */
void namespaces(const char *key, const char *rest)
{
	DIR *directory = opendir("/proc/self/ns");

	(void)rest;
	if (!directory) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	for (struct dirent *entry; (entry = readdir(directory));) {
		struct stat status;

		if (entry->d_name[0] != '.' && !fstatat(dirfd(directory), entry->d_name, &status, 0))
			natural(entry->d_name, status.st_ino);
	}
	end('}');
	closedir(directory);
}

/* what leads where, with fcntl(2)'s F_GETFL */
void descriptors(const char *key, const char *rest)
{
	DIR *directory = opendir("/proc/self/fd");

	(void)rest;
	if (!directory) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	for (struct dirent *entry; (entry = readdir(directory));) {
		char target[4096];
		ssize_t size;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
			continue;
		size = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target));
		begin(entry->d_name, '{');
		if (size >= 0)
			bytes("target", target, (size_t)size);
		number("flags", fcntl(atoi(entry->d_name), F_GETFL));
		end('}');
	}
	end('}');
	closedir(directory);
}

void environment(const char *key, const char *rest)
{
	(void)rest;
	begin(key, '[');
	for (char **entry = environ; *entry; entry++)
		text(NULL, *entry);
	end(']');
}

void cwd(const char *key, const char *rest)
{
	char path[4096];

	(void)rest;
	if (getcwd(path, sizeof(path)))
		text(key, path);
	else
		failed(key, errno);
}

/* of standard input: its size and name, and whether it controls this session */
void terminal(const char *key, const char *rest)
{
	struct winsize size;
	char name[4096];
	ssize_t length = readlink("/proc/self/fd/0", name, sizeof(name));
	int controlling;

	(void)rest;
	if (ioctl(0, TIOCGWINSZ, &size)) {
		failed(key, errno);
		return;
	}
	controlling = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	begin(key, '{');
	number("height", size.ws_row);
	number("width", size.ws_col);
	if (length >= 0)
		bytes("name", name, (size_t)length);
	truth("controls", controlling >= 0);
	end('}');
	if (controlling >= 0)
		close(controlling);
}

void uname_now(const char *key, const char *rest)
{
	struct utsname found;

	(void)rest;
	if (uname(&found)) {
		failed(key, errno);
		return;
	}
	begin(key, '{');
	text("hostname", found.nodename);
	text("domainname", found.domainname);
	text("machine", found.machine);
	text("release", found.release);
	end('}');
}

/* nanoseconds */
void clocks(const char *key, const char *rest)
{
	static const struct {
		const char *name;
		clockid_t clock;
	} all[] = {{"realtime", CLOCK_REALTIME}, {"monotonic", CLOCK_MONOTONIC}, {"boottime", CLOCK_BOOTTIME}};

	(void)rest;
	begin(key, '{');
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct timespec now;

		if (!clock_gettime(all[i].clock, &now))
			number(all[i].name, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	}
	end('}');
}

void file(const char *key, const char *rest)
{
	char *data = NULL;
	size_t size = 0, room = 0;
	ssize_t got = -1;
	int fd = open(rest ? rest : "", O_RDONLY | O_CLOEXEC);

	while (fd >= 0) {
		if (size == room)
			data = realloc(data, room = room * 2 + 65536);
		got = read(fd, data + size, room - size);
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	if (got < 0)
		failed(key, errno);
	else
		bytes(key, data, size);
	if (fd >= 0)
		close(fd);
	free(data);
}

/* one line of /proc/self/status, without its name */
void status_line(const char *key, const char *rest)
{
	char line[4096];
	FILE *status = fopen("/proc/self/status", "re");
	size_t length = rest ? strlen(rest) : 0;

	if (!status) {
		failed(key, errno);
		return;
	}
	while (fgets(line, sizeof(line), status)) {
		if (!length || strncmp(line, rest, length) || line[length] != ':')
			continue;
		bytes(key, line + length + 1 + strspn(line + length + 1, " \t"),
		      strcspn(line + length + 1 + strspn(line + length + 1, " \t"), "\n"));
		fclose(status);
		return;
	}
	fclose(status);
	failed(key, ENOENT);
}
