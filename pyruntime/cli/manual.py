"""The manual page: `python -m pyruntime.cli.manual` prints it (man(7)). Commands and options are the table's; the rest is told here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyruntime import __version__
from pyruntime.cli.table import Option, Row, table

# what the line of the help does not tell
MORE: dict[str, tuple[str, ...]] = {
    "create": (
        "The program of the bundle does not run yet: everything else is made, and a process waits. It is the child of the nearest subreaper "
        "or of process 1 once the command ends.",
        "If the bundle asks for a terminal, --console-socket has to be given; it is sent the master.",
        "A program that is missing or may not be executed fails here, and not at the start."),
    "start": ("Returns once the program is executed. A poststart hook that fails destroys the container.",),
    "run": (
        "Without --detach, signals go on to the program, a terminal is the caller's, and the exit status is the program's. With it the "
        "command ends once the program runs, and does not delete the container.",),
    "kill": ("A signal to a container without a pid namespace of its own that is KILL ends all of it.",),
    "delete": ("One that was created and never started is removed too; one that runs is, with --force.",),
    "exec": (
        "What neither the options nor --process tell is as it is for the container's own program: user, directory, environment, capabilities, "
        "limits, labels.",
        "Without --detach, signals go on to the process, and the exit status is its own. A failure to execute it ends with 255."),
    "list": ("Entries that are damaged are left out, and warned of.",),
    "ps": ("Which processes are shown is the container's affair, how they are shown that of ps(1), whose options follow the id.",),
    "update": ("What is not given stays as it is; if a part fails, nothing is changed. A number of bytes may have a unit: 512M, 1.5 GiB.",
               "Given schemata, a container that is in no group of resctrl is put into one of its own."),
    "events": ("One JSON document a line, as long as the container runs: statistics at the interval, and that memory ran out.",),
    "checkpoint": ("By criu(8). The container ends, unless it is told to go on.",),
    "restore": ("By criu(8), from a bundle like the one that was made of; what is mounted from the host is what this bundle's config.json "
                "says.",),
    "spec": ("A config.json that is there already is left alone.",),
    "plan": (
        "A line for each step: its number, whether the calling process (host) or the container's (init) takes it, what is done, and behind a "
        "# the field of config.json that asks for it (with \"not given\" where its default does), or the rule of the specification, the "
        "kernel or this runtime. What both do at once stands one after the other. The last lines tell what would be otherwise for root, or "
        "without privileges.",
        "Nothing is written, made or mounted, and nobody needs privileges for it. A bundle that is refused ends with 1 and the error that "
        "create has; with --format json that is an object too: type, message, file, jsonPath, reason."),
    "doctor": (
        "A line for each finding, which is ok, limited or missing; below it what follows, and the remedy. What can be tried without harm is "
        "tried: system calls, namespaces, id-mapped mounts, criu. Whoever calls it is who is told of: root and others need different things.",
        "Ends with 0 if containers can run for the caller, and with 1 if not."),
    "completion": ("To be sourced by the shell, or kept where it looks for such: see EXAMPLES.",),
    "features": ("The document of the runtime specification's features.md.",),
}

_DESCRIPTION = (
    "pyruntime makes containers of bundles of the Open Container Initiative: a directory with a config.json and a root file system. Its "
    "commands, options, formats and exit statuses are those of runc(8), so that engines can use it in its place; it is Python, with no other "
    "runtime behind it.",
    "A container is known by its id, a file name of the characters a-z A-Z 0-9 _ + - . that does not begin with a dot. Options of a command "
    "may stand before and behind its operands; what follows the id of exec and ps is not the command's. A -- ends the options. Every command "
    "has --help.",
    "An error is one line on standard error, which ends with errno's name and text where a system call failed, and names the field of "
    "config.json that asked for what failed. With --log it is one record in that file, too.")
_STATUS = (("0", "The command did what it was asked."), ("1", "It failed; of doctor: containers cannot run for the caller."),
           ("3", "There is no such command."), ("130", "It was interrupted."),
           ("255", "exec: the process could not be executed."),
           ("other", "run and exec without --detach: the exit status of the process, 128+n if signal n ended it."))
_ENVIRONMENT = (
    ("XDG_RUNTIME_DIR", "Where others than root have their containers' state: in the directory pyruntime in it, unless --root is given."),
    ("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES", "Sockets that create and run inherit (sd_listen_fds(3)), which are passed on to the program "
                                               "before those of --preserve-fds."),
    ("NOTIFY_SOCKET", "Where it is told what a container's program says of itself (sd_notify(3)): with it, create and run give the program a "
                      "socket of its own, and start and run --detach end when the program is ready, or has ended."),
    ("DBUS_SYSTEM_BUS_ADDRESS", "The bus that --systemd-cgroup speaks to systemd by."),
    ("DBUS_SESSION_BUS_ADDRESS", "The bus of a user's own systemd, which --systemd-cgroup speaks to without privileges; else it is bus in "
                                 "$XDG_RUNTIME_DIR."),
    ("PATH", "Where criu and ps are looked for. newuidmap and newgidmap are not looked for there."))
_FILES = (
    ("config.json", "In the bundle: what is to be made."),
    ("/run/pyruntime/ID/", "State of a container of root's: state.json, the name of its cgroup, the socket that start uses until it is "
                           "started, and an empty file for each further process. Nobody else may write there."),
    ("/run/pyruntime/.filters/, /run/pyruntime/.plans/", "Filters of system calls and plans that were made before. They can be removed at any "
                                                         "time."),
    ("$XDG_RUNTIME_DIR/pyruntime/", "The same of others than root."),
    ("/etc/subuid, /etc/subgid", "Ids that others than root may map besides their own (subuid(5), subgid(5))."),
    ("checkpoint/", "In the current directory: what checkpoint writes and restore reads, unless --image-path is given; criu's log is in it."))
EXAMPLES = (
    ("A container of a user without privileges:", ("pyruntime spec --rootless", "pyruntime run c1")),
    ("What this host lacks, and what a bundle would come to:",
     ("pyruntime doctor", "pyruntime plan --format json bundle | jq .steps[].jsonPath")),
    ("Its life step by step, as an engine goes through it:",
     ("pyruntime create --bundle bundle c1 </dev/null >out 2>&1", "pyruntime start c1", "pyruntime exec c1 ls -l /", "pyruntime kill c1 TERM",
      "pyruntime delete c1")),
    ("A smaller limit while it runs:", ("pyruntime update --memory 256M --pids-limit 50 c1",)),
    ("For podman and Docker:", ("podman --runtime $(command -v pyruntime) run alpine true",
                                "dockerd --add-runtime pyruntime=$(command -v pyruntime)")),
    ("Completion in bash, zsh and fish:",
     ("source <(pyruntime completion bash)", "pyruntime completion zsh > /usr/share/zsh/site-functions/_pyruntime",
      "pyruntime completion fish > ~/.config/fish/completions/pyruntime.fish")))
_SEE_ALSO = "runc(8), crun(1), criu(8), podman(1), cgroups(7), namespaces(7), user_namespaces(7), seccomp(2), subuid(5)"


def manual() -> str:
    """In the macros of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    before, *commands = table()
    yield '.\\" made by `make manual` of pyruntime/cli/manual.py and the table of commands'
    yield f'.TH PYRUNTIME 8 "" "pyruntime {__version__}" "System Administration"'
    yield from (".SH NAME", f"pyruntime {_roff('-')} makes and runs OCI containers")
    yield from (".SH SYNOPSIS", *_synopsis(Row("", "", before.options, ()), "\\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]"))
    yield from (".SH DESCRIPTION", *_paragraphs(_DESCRIPTION))
    yield from (".SH GLOBAL OPTIONS", "They stand before the command.", *_options(before.options))
    yield ".SH COMMANDS"
    for row in commands:
        yield from (f".SS {row.name}", *_synopsis(row, " ".join(_operands(row))), ".PP", _text(f"{row.help[:1].upper()}{row.help[1:]}."))
        for paragraph in MORE.get(row.name, ()):
            yield from (".PP", _text(paragraph))
        yield from _options(row.options)
    yield from (".SS help", "\\fBpyruntime help\\fR [\\fICOMMAND\\fR]", ".PP", "Print the help of a command, or which commands there are.")
    for title, entries in (("EXIT STATUS", _STATUS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {title}"
        for name, text in entries:
            yield from (".TP", f".B {_roff(name)}", _text(text))
    yield ".SH EXAMPLES"
    for title, lines in EXAMPLES:
        yield from (".PP", _text(title), ".PP", ".nf", ".RS", *(_text(line) for line in lines), ".RE", ".fi")
    yield from (".SH SEE ALSO", _text(_SEE_ALSO))


def _synopsis(row: Row, rest: str) -> Iterator[str]:
    """Bold is as it stands, italic is to be filled in."""
    yield f".HP\n\\fBpyruntime{' ' if row.name else ''}{_roff(row.name)}\\fR"
    for option in row.options:
        if option.names[-1] != "--help":
            value = "" if option.metavar is None else f" {_value(option)}"
            yield f"[{_bold(option.names[-1])}{value}]{' ...' if option.is_repeated else ''}"
    if rest:
        yield rest


def _operands(row: Row) -> Iterator[str]:
    for operand in row.operands:
        name = "|".join(map(_bold, operand.choices)) or f"\\fI{_roff(operand.metavar)}\\fR"
        yield f"[{name}]" if operand.is_optional else name


def _value(option: Option) -> str:
    return "|".join(map(_bold, option.choices)) if option.choices else f"\\fI{_roff(option.metavar or '')}\\fR"


def _options(options: Iterable[Option]) -> Iterator[str]:
    for option in (option for option in options if option.names[-1] != "--help"):
        value = "" if option.metavar is None else f" {_value(option)}"
        yield from (".TP", f"{', '.join(map(_bold, option.names))}{value}", _text(f"{option.help[:1].upper()}{option.help[1:]}."))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for i, text in enumerate(texts):
        if i:
            yield ".PP"
        yield _text(text)


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _roff(text: str) -> str:
    """Such that it stands there as it is, also where it is copied from."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("~", "\\(ti").replace("^", "\\(ha")


def _text(text: str) -> str:
    """A line of its own, which is no request."""
    line = _roff(text)
    return f"\\&{line}" if line[:1] in (".", "'") else line


if __name__ == "__main__":
    print(manual(), end="")
