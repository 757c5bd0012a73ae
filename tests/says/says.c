/* A service: it says each argument to NOTIFY_SOCKET (sd_notify(3)); at `-` it waits for a line of standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **arguments)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int descriptor = socket(AF_UNIX, SOCK_DGRAM, 0), error = 0;
    char line[16];

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : "");
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "-"))
            error |= !fgets(line, sizeof line, stdin);
        else
            error |= sendto(descriptor, arguments[i], strlen(arguments[i]), 0, (struct sockaddr *)&address, sizeof address) < 0;
    }
    return error;
}
