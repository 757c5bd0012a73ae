/* The program `pyruntime`: the commands that compile nothing, where they are plain. All else is the Python program's, which stands beside this
 * one and gets the same arguments: what is not as expected, every error, and every word. */
#define _GNU_SOURCE
#include "front.h"
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PYTHON_PROGRAM "pyruntime-python"
/* Who calls this program by another name, as runc's, reads that in the help. The Python program is a script, so it cannot see it itself. */
#define CALLED_AS "PYRUNTIME_CALLED_AS"
/* words before the command; an engine writes half a dozen */
#define TOLD_OPTIONS_MAX 64

static const struct {
    const char *name;
    int (*run)(struct front *front);
} commands[] = {
    {"state", command_state},
    {"start", command_start},
    {"kill", command_kill},
    {"delete", command_delete},
    {"exec", command_exec},
    {"create", command_create},
    {"run", command_run},
};

/* What the caller has closed would be the number of the next file that is opened, and that of the container's stream too. */
static int open_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return HAND_OVER;
    return 0;
}

/* The file of --log is there after every command. */
static int touch_log(const char *path)
{
    AUTO_FD log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    return log < 0 ? HAND_OVER : 0;
}

static int run_command(char **arguments)
{
    struct front front;

    if (locate(arguments, &front))
        return HAND_OVER;
    const struct line *line = &front.line;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, line->command))
            return line->log && touch_log(line->log) ? HAND_OVER : commands[i].run(&front);
    return HAND_OVER;
}

static int name_beside(char *ret_path, uint64_t size)
{
    ssize_t length = readlink("/proc/self/exe", ret_path, size - sizeof PYTHON_PROGRAM);

    if (length <= 0)
        return HAND_OVER;
    ret_path[length] = 0;
    strcpy(strrchr(ret_path, '/') + 1, PYTHON_PROGRAM);
    return 0;
}

/* Python's packager has made it beside this one; it knows the interpreter. A copy, or another link, of this program finds
 * it where the build was to install it, unless that is a place of somebody else on this machine. */
int name_python(char *ret_path, uint64_t size)
{
    char installed[PATH_MAX];

    if (name_beside(ret_path, size))
        return HAND_OVER;
    if (access(ret_path, F_OK) < 0 && errno == ENOENT && realpath(PYTHON_DIRECTORY "/" PYTHON_PROGRAM, installed)
        && is_nobody_elses(installed) && strlen(installed) < size)
        strcpy(ret_path, installed);
    return 0;
}

static int execute_python(char **arguments)
{
    char path[PATH_MAX] = PYTHON_PROGRAM;
    const char *slash = arguments[0] ? strrchr(arguments[0], '/') : NULL, *name = slash ? slash + 1 : arguments[0];

    /* without memory the help has this program's own name */
    unsetenv(CALLED_AS);
    if (name && *name && strcmp(name, "pyruntime"))
        setenv(CALLED_AS, name, 1);
    if (!name_python(path, sizeof path))
        execv(path, arguments);
    dprintf(STDERR_FILENO, "pyruntime: execute '%s': %s\n", path, strerror(errno));
    return 127;
}

int tell_failure(const struct front *front, const char *doing, const char *object, int error)
{
    char command[32], number[16], given[PATH_MAX + 16];
    char *arguments[TOLD_OPTIONS_MAX + 6] = {front->arguments[-1]};  /* the name of this one */
    int count = 1;

    snprintf(command, sizeof command, "%s-failed", front->line.command);
    snprintf(number, sizeof number, "%d", -error);
    snprintf(given, sizeof given, "--object=%s", object);  /* which may begin with a dash */
    /* the options before the command: where the log is */
    for (char **at = front->arguments; *at != front->line.command && count <= TOLD_OPTIONS_MAX; at++)
        arguments[count++] = *at;
    char *told[] = {command, given, (char *)(uintptr_t)doing, number, NULL};
    memcpy(arguments + count, told, sizeof told);
    return execute_python(arguments);
}

int main(int count, char **arguments)
{
    int code = count < 1 || open_standard_streams() ? HAND_OVER : run_command(arguments + 1);

    return code == HAND_OVER ? execute_python(arguments) : code;
}
