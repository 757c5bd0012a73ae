"""Names in a container's state directory that other stages know."""

START_SOCKET = "start"
