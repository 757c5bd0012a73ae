"""completion: scripts by which bash, zsh and fish complete this command line. They hold the table of commands and options, and ask the
command itself for nothing but the ids of containers."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator

from pyruntime.cli.plain import Options
from pyruntime.cli.table import Option, Row, table

_SIGNALS = tuple(sorted((number.name.removeprefix("SIG") for number in signal.Signals), key=lambda name: (not name.isalpha(), name)))


def print_completion(options: Options) -> int:
    """The script of a shell, to be sourced by it."""
    print(SCRIPTS[options.shell]())
    return 0


def _values(option: Option) -> Iterable[str]:
    return option.choices if option.kind == "words" else ()


# bash

_BASH = r"""# completion of pyruntime for bash, made by `pyruntime completion bash`

# what an option takes, '-' for one that takes no value: of a command, '' for those that stand before it
_pyruntime_option() {
    case "$1:$2" in
@OPTIONS@
        *) echo - ;;
    esac
}

# the options of a command
_pyruntime_options() {
    case "$1" in
@NAMES@
    esac
}

# what the operand of a command with a number is, from 1 on
_pyruntime_operand() {
    case "$1:$2" in
@OPERANDS@
    esac
}

_pyruntime_reply() {
    local cur=$2
    case "$1" in
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        directory) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        container)
            local ids
            ids=$("${COMP_WORDS[0]/#\~/$HOME}" "${_pyruntime_root[@]}" list -q 2>/dev/null)
            mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$cur") ;;
        signal) mapfile -t COMPREPLY < <(compgen -W "@SIGNALS@" -- "${cur#SIG}") ;;
        words:*) mapfile -t COMPREPLY < <(compgen -W "${1#words:}" -- "$cur") ;;
    esac
}

_pyruntime() {
    local cur=${COMP_WORDS[COMP_CWORD]} command='' option='' kind=- operands=0 ended='' i word
    local -a _pyruntime_root=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $kind != - ]]; then
            # a value, which readline has parted from its option if there is a = between
            [[ $word == = ]] && continue
            [[ -z $command && $option == --root ]] && _pyruntime_root=(--root "$word")
            kind=-
        elif [[ -z $ended && $word == -- ]]; then
            ended=yes
        elif [[ -z $ended && $word == -* ]]; then
            option=${word%%=*}
            [[ $word == *=* ]] || kind=$(_pyruntime_option "$command" "$option")
        elif [[ -z $command ]]; then
            command=$word
        else
            ((operands++))
            [[ $(_pyruntime_operand "$command" $((operands + 1))) == rest ]] && ended=yes
        fi
    done
    [[ $cur == = ]] && cur=''
    if [[ $kind != - ]]; then
        _pyruntime_reply "$kind" "$cur"
    elif [[ -z $ended && $cur == -* ]]; then
        _pyruntime_reply "words:$(_pyruntime_options "$command")" "$cur"
    elif [[ -z $command ]]; then
        _pyruntime_reply "words:@COMMANDS@" "$cur"
    else
        _pyruntime_reply "$(_pyruntime_operand "$command" $((operands + 1)))" "$cur"
    fi
}

complete -F _pyruntime pyruntime"""


def _in_bash(kind: str, choices: Iterable[str]) -> str:
    return f"words:{' '.join(choices)}" if kind == "words" else kind or "text"


def bash() -> str:
    """With no need of the package bash-completion."""
    rows = table()
    options: dict[str, list[str]] = {}
    operands: list[str] = []
    for row in rows:
        for option in row.options:
            if option.metavar is not None:
                options.setdefault(_in_bash(option.kind, option.choices), []).extend(f"{row.name}:{name}" for name in option.names)
        for i, operand in enumerate(row.operands, 1):
            kind = "rest" if operand.takes_rest else _in_bash(operand.kind, operand.choices)
            operands.append(f"        {row.name}:{i}) echo '{kind}' ;;")
    return _filled(_BASH, {
        "OPTIONS": (f"        {'|'.join(names)}) echo '{kind}' ;;" for kind, names in options.items()),
        "NAMES": (f"        '{row.name}') echo '{' '.join(name for option in row.options for name in option.names)}' ;;" for row in rows),
        "OPERANDS": operands, "SIGNALS": [" ".join(_SIGNALS)], "COMMANDS": [" ".join((*(row.name for row in rows if row.name), "help"))]})


def _filled(text: str, parts: dict[str, Iterable[str]]) -> str:
    for name, lines in parts.items():
        text = text.replace(f"@{name}@", "\n".join(lines))
    return text


# zsh

_ZSH = r"""#compdef pyruntime
# completion of pyruntime for zsh, made by `pyruntime completion zsh`

_pyruntime_containers() {
    local -a ids
    ids=(${(f)"$(${(Q)_pyruntime_program} ${_pyruntime_root:+--root} ${_pyruntime_root:+${(Q)_pyruntime_root}} list -q 2>/dev/null)"})
    compadd -a ids
}

_pyruntime() {
    local curcontext="$curcontext" state line ret=1 _pyruntime_program=$words[1] _pyruntime_root
    typeset -A opt_args
    _arguments -C -S \
@GLOBAL@
        '1:command:->command' \
        '*::argument:->argument' && ret=0
    _pyruntime_root=$opt_args[--root]
    case $state in
        command)
            local -a commands=(
@COMMANDS@
            )
            _describe -t commands command commands && ret=0 ;;
        argument)
            curcontext="${curcontext%:*}-$words[1]:"
            case $words[1] in
@ARGUMENTS@
            esac ;;
    esac
    return ret
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _pyruntime "$@"
else
    compdef _pyruntime pyruntime
fi"""
_ZSH_KINDS = {"file": "_files", "directory": "_files -/", "container": "_pyruntime_containers", "signal": f"({' '.join(_SIGNALS)})", "": " "}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def _zsh_action(kind: str, choices: Iterable[str]) -> str:
    return f"({' '.join(choices)})" if kind == "words" else _ZSH_KINDS[kind]


def _zsh_option(option: Option) -> Iterator[str]:
    others = "" if option.is_repeated or len(option.names) == 1 else f"({' '.join(option.names)})"
    for name in option.names:
        spec = f"{'*' if option.is_repeated else others}{name}"
        if option.metavar is not None:
            spec += "=" if name.startswith("--") else "+"
        spec += f"[{_zsh_text(option.help)}]"
        if option.metavar is not None:
            spec += f":{_zsh_text(option.metavar)}:{_zsh_action(option.kind, option.choices)}"
        yield _quoted(spec)


def _zsh_command(row: Row) -> Iterator[str]:
    specs = [spec for option in row.options for spec in _zsh_option(option)]
    for i, operand in enumerate(row.operands, 1):
        place = "*::" if operand.takes_rest else f"{i}:{':' if operand.is_optional else ''}"
        action = "_default" if operand.takes_rest else _zsh_action(operand.kind, operand.choices)
        specs.append(_quoted(f"{place}{_zsh_text(operand.metavar)}:{action}"))
    yield f"                {row.name})"
    yield "                    _arguments -S \\"
    yield " \\\n".join(f"                        {spec}" for spec in specs) + " && ret=0 ;;"


def zsh() -> str:
    """To be sourced, or as a file _pyruntime in a directory of $fpath."""
    before, *commands = table()
    return _filled(_ZSH, {
        "GLOBAL": (f"        {spec} \\" for option in before.options for spec in _zsh_option(option)),
        "COMMANDS": (f"                {_quoted(f'{row.name}:{row.help}')}" for row in commands),
        "ARGUMENTS": (line for row in commands for line in _zsh_command(row))})


# fish

_FISH = r"""# completion of pyruntime for fish, made by `pyruntime completion fish`

# the words before the one that is completed: the command, its operands so far, and the root, one a line
function __pyruntime_words
    set -l kind
    set -l command
    set -l root
    set -l operands 0
    for word in (commandline -opc)[2..-1]
        if test -n "$kind"
            test "$kind" = root; and set root $word
            set kind
            continue
        end
        switch $word
            case '--root=*'
                set root (string replace -- --root= '' $word)
            case --
            case '-*'
                switch "$command:$word"
                    case :--root
                        set kind root
@VALUED@
                end
            case '*'
                if test -z "$command"
                    set command $word
                else
                    set operands (math $operands + 1)
                end
        end
    end
    printf '%s\n' "$command" $operands "$root"
end

# whether that command is being completed; with a number, whether that operand of it is, from 1 on
function __pyruntime_at
    set -l words (__pyruntime_words)
    test "$words[1]" = "$argv[1]"; or return 1
    test (count $argv) -lt 2; or test (math $words[2] + 1) -eq $argv[2]
end

function __pyruntime_containers
    set -l root (__pyruntime_words)[3]
    set -l program (commandline -opc)[1]
    if test -n "$root"
        $program --root $root list -q 2>/dev/null
    else
        $program list -q 2>/dev/null
    end
end

complete -c pyruntime -e
complete -c pyruntime -f
@LINES@"""


def _fish_values(kind: str, choices: Iterable[str]) -> str:
    return {"file": " -F", "directory": " -x -a '(__fish_complete_directories)'", "container": " -x -a '(__pyruntime_containers)'",
            "signal": f" -x -a '{' '.join(_SIGNALS)}'", "words": f" -x -a '{' '.join(choices)}'"}.get(kind, " -x")


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_lines(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        if row.name:
            yield f"complete -c pyruntime -n '__pyruntime_at \"\"' -a {row.name} -d {_fish_quoted(row.help)}"
        condition = f"-n '__pyruntime_at \"{row.name}\"'"
        for option in row.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            values = "" if option.metavar is None else f" -r{_fish_values(option.kind, option.choices)}"
            yield f"complete -c pyruntime {condition} {names}{values} -d {_fish_quoted(option.help)}"
        for i, operand in enumerate(row.operands, 1):
            if operand.kind:
                # where a file may stand, files are not kept away
                values = _fish_values(operand.kind, operand.choices)
                yield f"complete -c pyruntime -n '__pyruntime_at \"{row.name}\" {i}'{values}"


def fish() -> str:
    """To be sourced, or as a file pyruntime.fish in ~/.config/fish/completions."""
    rows = table()
    valued = [f"{row.name}:{name}" for row in rows for option in row.options if option.metavar is not None for name in option.names
              if f"{row.name}:{name}" != ":--root"]
    return _filled(_FISH, {"VALUED": [f"                    case {' '.join(valued)}", "                        set kind value"],
                           "LINES": _fish_lines(rows)})


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
