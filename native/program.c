/* The last steps: names of the host, waiting for start, and becoming the user program. */
#include <limits.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "init.h"

OPERATION(set_hostname)
{
    const char *name = plan_text(&init->plan, op, 0);

    return sethostname(name, strlen(name)) < 0 ? explain(init, -errno, "sethostname") : 0;
}

OPERATION(set_domainname)
{
    const char *name = plan_text(&init->plan, op, 0);

    return syscall(SYS_setdomainname, name, strlen(name)) < 0 ? explain(init, -errno, "setdomainname") : 0;
}

OPERATION(raise_loopback)
{
    struct ifreq request = {.ifr_name = "lo"};
    AUTO_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)op;
    if (fd < 0)
        return explain(init, -errno, "socket");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? explain(init, -errno, "set lo up") : 0;
}

int seal_descriptors(struct init *init)
{
    if (!init->is_sealed && close_from(3 + init->plan.header->preserve_fds, CLOSE_RANGE_CLOEXEC) < 0)
        return explain(init, -errno, "close_range");
    init->is_sealed = true;
    return 0;
}

/* For as long as it waits, nothing of the host's, and no descriptor of the image's either, is where somebody might find a way to it. What is
 * opened from then on is closed by execution, so that this leaves nothing to seal. */
int keep_start_socket(struct init *init)
{
    const struct plan *plan = &init->plan;
    uint32_t i = 0;

    if (init->is_sealed)
        return 0;
    while (i < plan->header->init_count && plan->init[i].kind != OP_AWAIT_START)
        i++;
    if (i == plan->header->init_count)
        return seal_descriptors(init);
    /* the number before is the wire's */
    int first = init->first_fd + 1, socket = init->slots[plan->init[i].slot[0]];
    if (socket < first)
        return explain(init, -EBADF, "look at the start socket");
    int error = socket > first ? close_between((unsigned int)first, (unsigned int)socket - 1, 0) : 0;
    if (!error)
        error = close_from((unsigned int)socket + 1, 0);
    if (error)
        return explain(init, error, "close_range");
    init->parent = -1;
    init->is_sealed = true;
    return 0;
}

OPERATION(await_start)
{
    struct message message = {.type = MESSAGE_READY, .operation = -1};
    int listener = init->slots[op->slot[0]], listens = 0;
    socklen_t size = sizeof listens;

    /* nobody hears of a failure between READY and start */
    if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
        return explain(init, -errno, "look at the start socket");
    if (!listens)
        return explain(init, -EINVAL, "the start socket does not listen");
    int error = keep_start_socket(init);
    if (error)
        return error;
    error = send_message(init->wire, &message, -1);
    if (error < 0)
        return explain(init, error, "say ready");
    close(init->wire);
    init->wire = -1;
    int connection;
    while ((connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        if (errno != EINTR && errno != ECONNABORTED)
            return -errno;
    close(listener);
    init->wire = connection;
    return 0;
}

/* number: 1 to make the directory if it is missing, as runc and crun do for a container's first process */
OPERATION(change_directory)
{
    const char *path = plan_text(&init->plan, op, 0);
    char reached[PATH_MAX];
    AUTO_FD fd = open_inside(path, O_PATH | O_DIRECTORY);

    if (fd == -ENOENT && op->number[0]) {
        int error = make_directory_inside(init, path, 0755, &fd);
        if (error)
            return error;
    }
    if (fd < 0)
        return explain(init, fd, "open");
    if (fchdir(fd) < 0)
        return explain(init, -errno, "chdir");
    /* the system call says "(unreachable)" for what is outside of the root; the library function would hide it */
    if (syscall(SYS_getcwd, reached, sizeof reached) < 0 || reached[0] != '/')
        return explain(init, -EPERM, "it is outside of the container's root");
    return 0;
}

/* HOME as runc sets it: the image's passwd entry of the numeric uid, else "/". Only the third field is compared: a name
 * never stands for an id. */
static bool home_of_line(const char *line, size_t length, uint64_t uid, char *ret_home, size_t size)
{
    const char *field[7];
    size_t width[7];
    int fields = 0;

    for (size_t begin = 0; fields < 7 && begin <= length; fields++) {
        const char *colon = memchr(line + begin, ':', length - begin);
        size_t end = colon ? (size_t)(colon - line) : length;
        field[fields] = line + begin;
        width[fields] = end - begin;
        begin = end + 1;
    }
    if (fields < 6 || width[2] == 0 || width[2] > 10)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < width[2]; i++) {
        if (field[2][i] < '0' || field[2][i] > '9')
            return false;
        number = number * 10 + (uint64_t)(field[2][i] - '0');
    }
    if (number != uid || width[5] == 0 || width[5] >= size)
        return false;
    memcpy(ret_home, field[5], width[5]);
    ret_home[width[5]] = 0;
    return true;
}

#define PASSWD_LIMIT 1048576

OPERATION(set_home)
{
    char buffer[6144];
    size_t held = 0;
    char *home = init->home_text + 5;
    /* the working directory is the program's already */
    AUTO_FD root = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0);
    AUTO_FD fd = open_at(root, "etc/passwd", O_RDONLY | O_NONBLOCK, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    struct stat st;

    memcpy(init->home_text, "HOME=/", 7);
    init->home = init->home_text;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    /* the image's file may be sparse and of any size */
    for (size_t total = 0; total < PASSWD_LIMIT;) {
        ssize_t length = read(fd, buffer + held, sizeof buffer - held);
        if (length < 0)
            return explain(init, -errno, "read /etc/passwd");
        total += (size_t)length;
        size_t end = held + (size_t)length, begin = 0;
        char *newline;
        while ((newline = memchr(buffer + begin, '\n', end - begin))) {
            if (home_of_line(buffer + begin, (size_t)(newline - buffer) - begin, op->number[0], home, 250))
                return 0;
            begin = (size_t)(newline - buffer) + 1;
        }
        if (length == 0) {
            home_of_line(buffer + begin, end - begin, op->number[0], home, 250);
            return 0;
        }
        held = end - begin;
        if (held == sizeof buffer)
            held = 0;
        memmove(buffer, buffer + begin, held);
    }
    return 0;
}

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What is tried with each file that a name may mean. */
typedef int try_file(const char *file, char **arguments, char **environment);

/* execvp's rule: go on where a file is missing, remember where one may not be executed. */
static int search_program(const char *name, const char *path, try_file *attempt, char **arguments, char **environment)
{
    char file[PATH_MAX];
    size_t name_length = strlen(name);
    int error = -ENOENT;

    if (!*name)
        return -ENOENT;
    if (strchr(name, '/'))
        return attempt(name, arguments, environment);
    for (;;) {
        size_t length = strcspn(path, ":");
        if (length + name_length + 2 <= sizeof file) {
            memcpy(file, path, length);
            if (length)
                file[length++] = '/';
            memcpy(file + length, name, name_length + 1);
            int result = attempt(file, arguments, environment);
            if (result == -EACCES)
                error = -EACCES;
            else if (result != -ENOENT && result != -ENOTDIR)
                return result;
        }
        path += strcspn(path, ":");
        if (!*path++)
            return error;
    }
}

static int execute_file(const char *file, char **arguments, char **environment)
{
    return execve(file, arguments, environment) < 0 ? -errno : 0;
}

static int look_at_file(const char *file, char **arguments, char **environment)
{
    struct stat st;

    (void)arguments;
    (void)environment;
    if (syscall(SYS_faccessat2, AT_FDCWD, file, X_OK, AT_EACCESS) < 0)
        return -errno;
    if (fstatat(AT_FDCWD, file, &st, 0) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? 0 : -EACCES;
}

int announce_execution(struct init *init)
{
    struct message message = {.type = MESSAGE_EXECUTING, .operation = -1};

    if (init->is_announced)
        return 0;
    int error = send_message(init->wire, &message, -1);
    if (error < 0)
        return explain(init, error, "say that the program starts");
    init->is_announced = true;
    return seal_descriptors(init);
}

/* So that a missing program is told of before a filter may forbid to tell anything. The lists are execute_program's, but stay offsets. */
OPERATION(find_program)
{
    const char *name = plan_item(&init->plan, op, 0, 0), *path = DEFAULT_PATH, *variable;

    if (!name)
        return explain(init, -EINVAL, "no program is named");
    for (uint32_t i = 0; (variable = plan_item(&init->plan, op, 1, i)); i++)
        if (strncmp(variable, "PATH=", 5) == 0)
            path = variable + 5;
    int error = search_program(name, path, look_at_file, NULL, NULL);
    init->has_found = !error;
    return explain(init, error, name);
}

void add_home(const struct init *init, char **environment)
{
    if (!init->home)
        return;
    while (*environment)
        environment++;
    /* the encoder leaves one place behind the list's end */
    environment[0] = (char *)(uintptr_t)init->home;
    environment[1] = NULL;
}

OPERATION(execute_program)
{
    char **arguments = plan_vector(&init->plan, op, 0);
    char **environment = plan_vector(&init->plan, op, 1);
    const char *path = DEFAULT_PATH;

    if (!arguments[0])
        return explain(init, -EINVAL, "no program is named");
    for (char **variable = environment; *variable; variable++)
        if (strncmp(*variable, "PATH=", 5) == 0)
            path = *variable + 5;
    add_home(init, environment);
    int error = announce_execution(init);
    if (error)
        return error;
    error = search_program(arguments[0], path, execute_file, arguments, environment);
    /* a filter may end who looks again: then it was looked for just before */
    if (error == -ENOENT && (init->is_filtered ? init->has_found : !search_program(arguments[0], path, look_at_file, NULL, NULL)))
        error = -NO_LOADER;
    /* who starts a container need not know what it runs */
    return explain(init, error, arguments[0]);
}

/* The end of a container without a process: it can be created, and whoever starts it hears this. */
OPERATION(refuse_start)
{
    (void)op;
    return explain(init, -ENODATA, "there is no process to start");
}
