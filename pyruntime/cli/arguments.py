"""What may stand on the command line: the global options, then a command, then its options and operands.

Lines as programs write them are read by `plain`; argparse is imported for all others, and only the parser of the command that was given is
made. What may stand there is said once, as argparse's `add_argument` has it, to whoever wants to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyruntime.cli.plain import BOOLEANS, REST, Declarations, Options

if TYPE_CHECKING:
    from pyruntime.cli import parser

    Parser = Declarations | parser.Parser

DEFAULT_ROOT = "/run/pyruntime"
CGROUP_MANAGERS = ("cgroupfs", "systemd", "disabled")


class UsageError(Exception):
    """The command line is not one of those that there are; `exit_code` is what runc ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Command:
    """handler        the module below pyruntime.cli and the function in it, imported when the command is given
    failure_code   the exit code for errors: those of a process that runs are told apart from it, as with runc"""

    def __init__(self, handler: str, help: str, fill: Callable[[Parser], None], failure_code: int = 1) -> None:
        self.handler = handler
        self.help = help
        self.fill = fill
        self.failure_code = failure_code


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise _refusal(f"{text!r} is not a number") from None
    if number < 0:
        raise _refusal(f"{text} is less than 0")
    return number


def _truth(text: str) -> str:
    """In all spellings that runc has."""
    return str(BOOLEANS[text]).lower() if text in BOOLEANS else text.lower() or "auto"


def _refusal(message: str) -> Exception:
    """What argparse expects of who reads a value."""
    from argparse import ArgumentTypeError

    return ArgumentTypeError(message)


def _id(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the container")


def _new_container(parser: Parser) -> None:
    parser.add_argument("-b", "--bundle", default=".", metavar="DIRECTORY", help="the directory with config.json; by default this one")
    _pid_file(parser)
    _without_parts(parser)
    _preserved(parser)
    parser.set_defaults(activates=True)


def _without_parts(parser: Parser) -> None:
    parser.add_argument("--no-pivot", action="store_true", help="cover the root instead of pivoting: for a host that runs from an initramfs")
    parser.add_argument("--no-new-keyring", action="store_true", help="leave the session keyring as it is")


def _pid_file(parser: Parser) -> None:
    parser.add_argument("--pid-file", metavar="FILE", help="where to write the process's pid, once all is done")
    parser.add_argument("--console-socket", metavar="SOCKET", help="a unix socket to send the terminal's master to")
    parser.add_argument("--pidfd-socket", metavar="SOCKET", help="a unix socket to send a pidfd of the process to")


def _preserved(parser: Parser) -> None:
    parser.add_argument("--preserve-fds", type=_count, default=0, metavar="N",
                        help="pass on the N descriptors after the standard streams; by default %(default)s")


def _create(parser: Parser) -> None:
    _new_container(parser)
    _id(parser)


def _run(parser: Parser) -> None:
    _new_container(parser)
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the container to end")
    parser.add_argument("--keep", action="store_true", help="do not delete the container when it has ended")
    parser.add_argument("--no-subreaper", action="store_true", help="accepted for callers of runc, of no effect")
    _id(parser)


def _exec(parser: Parser) -> None:
    parser.add_argument("-p", "--process", metavar="FILE", help="the whole of `process` as JSON; otherwise the container's own is changed")
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the process to end")
    _pid_file(parser)
    _preserved(parser)
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="a further variable")
    parser.add_argument("-u", "--user", metavar="UID[:GID]", help="numbers in the container, instead of the container's own")
    parser.add_argument("-g", "--additional-gids", type=_count, action="append", default=[], metavar="GID",
                        help="a further group, a number in the container")
    parser.add_argument("--cwd", metavar="PATH", help="its working directory in the container, instead of the container's own")
    parser.add_argument("-c", "--cap", action="append", default=[], metavar="NAME", help="a further capability")
    parser.add_argument("--no-new-privs", action="store_true", help="execution gives no privileges")
    parser.add_argument("--apparmor", metavar="PROFILE", help="of AppArmor, instead of the container's")
    parser.add_argument("--process-label", metavar="LABEL", help="of SELinux, instead of the container's")
    parser.add_argument("--cgroup", action="append", default=[], metavar="[CONTROLLER[,...]:]CGROUP",
                        help="one below the container's, for one of cgroup v1 or for all")
    parser.add_argument("--ignore-paused", action="store_true", help="also in a paused container, where it waits until this is resumed")
    _id(parser)
    parser.add_argument("command", nargs=REST, metavar="PROGRAM [ARGUMENT ...]",
                        help="what it executes; all that stands behind the id is the program's own")


def _kill(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="send it to all processes of the container")
    _id(parser)
    parser.add_argument("signal", nargs="?", default="TERM", metavar="SIGNAL", help="name or number; by default TERM")


def _delete(parser: Parser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill it first; none is fine too")
    _id(parser)


def _format(parser: Parser) -> None:
    parser.add_argument("-f", "--format", choices=("table", "json"), default="table", help="for people or for programs; by default %(default)s")


def _list(parser: Parser) -> None:
    _format(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only the ids")


def _ps(parser: Parser) -> None:
    _format(parser)
    _id(parser)
    parser.add_argument("ps_options", nargs=REST, metavar="OPTION", help="for ps(1), which makes the table; by default -ef")


def _update(parser: Parser) -> None:
    from pyruntime.cli.limits import LIMITS, SCHEMAS  # nothing else needs it

    parser.add_argument("-r", "--resources", metavar="FILE", help="`linux.resources` as JSON; - for standard input")
    for limit in (*LIMITS, *SCHEMAS):
        parser.add_argument(limit.option, type=limit.read, metavar=limit.metavar, help=limit.help)
    _id(parser)


def _events(parser: Parser) -> None:
    from pyruntime.cli.events import seconds

    parser.add_argument("--interval", type=seconds, default="5s", metavar="DURATION",
                        help="between statistics, as 1m30s or 500ms; by default 5s")
    parser.add_argument("--stats", action="store_true", help="only statistics, once")
    _id(parser)


def _spec(parser: Parser) -> None:
    parser.add_argument("-b", "--bundle", default=".", metavar="DIRECTORY", help="the directory to write config.json to; by default this one")
    parser.add_argument("--rootless", dest="is_rootless", action="store_true",
                        help="for a user without privileges: this one is the container's root")


def _plan(parser: Parser) -> None:
    _format(parser)
    parser.add_argument("--id", default="ID", metavar="ID", help="of the container that would be made; by default %(default)s")
    _without_parts(parser)
    _preserved(parser)
    parser.add_argument("bundle", nargs="?", default=".", metavar="BUNDLE", help="the directory with config.json; by default this one")


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def _of_checkpoints(parser: Parser) -> None:
    parser.add_argument("--image-path", default="checkpoint", metavar="DIRECTORY", help="of the checkpoint; by default %(default)s")
    parser.add_argument("--work-path", metavar="DIRECTORY", help="of criu's log; by default the same")
    parser.add_argument("--tcp-established", action="store_true", help="connections over TCP are wanted")
    parser.add_argument("--ext-unix-sk", action="store_true", help="connections over unix sockets with others are wanted")
    parser.add_argument("--shell-job", action="store_true", help="a session of somebody else's is wanted")
    parser.add_argument("--file-locks", action="store_true", help="locks of files are wanted")
    parser.add_argument("--manage-cgroups-mode", choices=("soft", "full", "strict", "ignore"), help="of cgroups below the container's own")
    parser.add_argument("--empty-ns", action="append", default=[], metavar="network", help="leave the network namespace empty")
    parser.add_argument("--lazy-pages", action="store_true", help="fetch memory when it is used")
    parser.add_argument("--auto-dedup", action="store_true", help="free what was read of an earlier checkpoint")


def _checkpoint(parser: Parser) -> None:
    _of_checkpoints(parser)
    parser.add_argument("--parent-path", metavar="DIRECTORY", help="an earlier one, relative to the image path")
    parser.add_argument("--leave-running", action="store_true", help="let the container go on")
    parser.add_argument("--pre-dump", action="store_true", help="only write the memory, and let the container go on")
    parser.add_argument("--link-remap", action="store_true", help="removed files that are open get a name meanwhile")
    parser.add_argument("--tcp-skip-in-flight", action="store_true", help="leave out connections that are being made")
    parser.add_argument("--page-server", metavar="ADDRESS:PORT", help="where to send memory")
    parser.add_argument("--status-fd", type=_count, metavar="N", help="a descriptor to write a NUL to when lazy pages are served")
    _id(parser)


def _restore(parser: Parser) -> None:
    parser.add_argument("-b", "--bundle", default=".", metavar="DIRECTORY", help="the directory with config.json; by default this one")
    _of_checkpoints(parser)
    _pid_file(parser)
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait for the container to end")
    parser.add_argument("--no-pivot", action="store_true", help="accepted for callers of runc, of no effect")
    parser.add_argument("--no-subreaper", action="store_true", help="accepted for callers of runc, of no effect")
    parser.add_argument("--lsm-profile", metavar="TYPE:NAME", help="instead of that of the checkpoint")
    parser.add_argument("--lsm-mount-context", metavar="CONTEXT", help="of the mounts")
    _id(parser)


def _failed(parser: Parser) -> None:
    parser.add_argument("--object", metavar="OBJECT", help="on what")
    parser.add_argument("doing", metavar="DOING", help="what was tried")
    parser.add_argument("number", type=_count, metavar="ERRNO", help="why not")


COMMANDS = {
    "create": Command("life_cycle:create", "apply everything of a bundle's config.json but its program", _create),
    "start": Command("life_cycle:start", "run the program of a created container", _id),
    "run": Command("life_cycle:run", "create, start, wait and delete", _run),
    "state": Command("states:state", "print a container's state as JSON", _id),
    "kill": Command("life_cycle:kill", "send a signal to a container's first process", _kill),
    "delete": Command("life_cycle:delete", "remove every trace of a stopped container", _delete),
    "exec": Command("processes:execute", "run a further process in a container", _exec, 255),
    "ps": Command("processes:ps", "print a container's processes", _ps),
    "pause": Command("life_cycle:pause", "stop all processes of a container", _id),
    "resume": Command("life_cycle:resume", "let them go on", _id),
    "update": Command("limits:update", "change a container's limits", _update),
    "events": Command("events:events", "print what a container uses, and when memory runs out", _events),
    "checkpoint": Command("checkpoints:checkpoint", "write a running container to files", _checkpoint),
    "restore": Command("checkpoints:restore", "make a container that goes on from there", _restore),
    "list": Command("states:list_containers", "print all containers", _list),
    "spec": Command("documents:write_spec", "write a config.json to begin with", _spec),
    "plan": Command("planned:print_plan", "print what would be done for a container, in order, and why, without doing it", _plan),
    "doctor": Command("diagnosis:print_diagnosis", "print what this host can do for containers, and what to change", _format),
    "completion": Command("completion:print_completion", "print what makes a shell complete this command line", _completion),
    "features": Command("documents:print_features", "print what this runtime can do as JSON", lambda parser: None),
}
# what the front end has Python say (native/front.c)
_OF_THE_FRONT_END = {
    "exec-failed": Command("failures:repeat_failure", "say why", _failed, 255),
    "run-failed": Command("failures:repeat_failure", "say why", _failed),
}
# the functions that need no runtime
WITHOUT_RUNTIME = frozenset({"repeat_failure", "write_spec", "print_features", "print_plan", "print_diagnosis", "print_completion"})


def declare_global(parser: Parser) -> None:
    """What comes before the command."""
    parser.add_argument("--root", default=DEFAULT_ROOT, metavar="DIRECTORY",
                        help="where the containers' state is; by default %(default)s, for others than root $XDG_RUNTIME_DIR/pyruntime")
    parser.add_argument("--log", metavar="FILE", help="where to write errors and warnings besides standard error")
    parser.add_argument("--log-format", type=lambda text: text or "text", choices=("text", "json"), default="text",
                        help="of its records; by default %(default)s")
    parser.add_argument("--debug", action="store_true", help="log what is done, and where errors come from")
    parser.add_argument("--systemd-cgroup", action="store_true", help="leave the containers' cgroups to systemd")
    parser.add_argument("--cgroup-manager", choices=CGROUP_MANAGERS, metavar="MANAGER",
                        help="as crun has it: cgroupfs, the default; systemd, the same as --systemd-cgroup; disabled: new containers stay in "
                        "the caller's cgroups")
    parser.add_argument("--rootless", type=_truth, choices=("true", "false", "auto"), default="auto",
                        help="accepted for callers of runc, of no effect")
    parser.add_argument("--criu", metavar="FILE", help="accepted for callers of runc, of no effect: PATH tells where criu is")
    parser.add_argument("-v", "--version", action="store_true", help="print the version")


_WITH_VALUE = ("--root", "--cgroup-manager", "--log", "--log-format", "--rootless", "--criu")


def _split(arguments: Sequence[str]) -> int:
    """The index of the command, after the global options."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if f"--{arguments[at].lstrip('-')}" in _WITH_VALUE else 1
    return at


def cgroups_asked(options: Options) -> tuple[bool, bool]:
    """What the global options say: whether systemd makes the containers' cgroups, and whether there are none."""
    manager = options.cgroup_manager or ("systemd" if options.systemd_cgroup else "cgroupfs")
    return manager == "systemd", manager == "disabled"


def parse_global(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """The global options, and the rest: the command and what belongs to it. Raises UsageError."""
    at = _split(arguments)
    options, given, rest = Options(), [argument for argument in arguments[:at] if argument != "--"], list(arguments[at:])
    plain = Declarations()
    declare_global(plain)
    if plain.read(given, options) and (rest or options.version):
        return options, rest
    from pyruntime.cli.parser import global_parser

    parser = global_parser()
    parser.read(given, options)
    if not rest and not options.version:
        parser.print_help()
    return options, rest


def parse_command(options: Options, arguments: Sequence[str]) -> Command:
    """Add the command's options to the global ones. Raises UsageError."""
    if arguments[0] == "help":
        arguments = (*arguments[1:2], "--help")
    name = arguments[0]
    command = COMMANDS.get(name) or _OF_THE_FRONT_END.get(name)
    if command is not None:
        plain = Declarations()
        command.fill(plain)
        if plain.read(arguments[1:], options):
            return command
        if name not in COMMANDS:
            command = None  # no person's, and so without help
    from pyruntime.cli.parser import command_parser, global_parser

    if name == "--help":
        global_parser().read(arguments, options)
    if command is None:
        from pyruntime.cli.nearest import nearest  # nothing else needs it

        # runc's words, if it is asked for help
        lacking = f"No help topic for {name!r}: no such command" if {"-h", "--help"} & set(arguments[1:]) else f"no command {name!r}"
        raise UsageError(f"{lacking}{nearest(name, COMMANDS)}: there are {', '.join(COMMANDS)}", 3)
    command_parser(name).read(arguments[1:], options)
    return command
