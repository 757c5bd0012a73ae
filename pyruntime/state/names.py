"""Names in a container's state directory that other stages know."""

START_SOCKET = "start"
# for sd_notify(3); the program sees the directory
NOTIFY_DIRECTORY, NOTIFY_SOCKET = "notify", "notify.sock"
