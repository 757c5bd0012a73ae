"""Build backend and cffi build script: compiles the static init with musl, then the extension that embeds it.

`pyproject.toml` names this module as its (in-tree) build backend; it is setuptools' with the extension added.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sysconfig

import cffi
import setuptools
from setuptools import build_meta

ROOT = pathlib.Path(__file__).resolve().parent
NATIVE = ROOT / "native"
INIT_SOURCES = ("init", "plan", "namespaces", "paths", "mounts", "tree", "filesystem", "copy_up", "devices", "credentials", "scheduling",
                "filter", "listener", "program", "hook", "run_hooks")
HOST_SOURCES = ("plan", "host", "userns", "cgroups", "settings", "id_maps", "tree", "child", "hook", "spawn", "wire", "wait", "status",
                "signals", "priority", "files", "network", "front_line", "front_place", "front_record", "kept", "kept_values",
                "seccomp")
# of the program `pyruntime`, besides those of the host that need no library
FRONT_SOURCES = ("front", "front_life", "front_process", "front_exec", "front_create")
OF_LIBRARIES = ("seccomp",)
FRONT_COMMANDS = ("state", "start", "kill", "delete", "exec", "create", "run")
# the contract between Python and C
ABI_HEADERS = ("abi", "abi_filters", "abi_kept")
HEADERS = (*ABI_HEADERS, "plan", "syscalls", "raw", "init", "host", "child", "clone", "listener", "tree", "front", "front_line",
           "front_process", "kept")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Wstrict-prototypes",
            "-Wmissing-prototypes", "-Wformat=2", "-Wno-format-nonliteral", "-Wvla")
# what cffi generates after its preamble warns of; our own sources do not
CFFI_WARNINGS = ("-Wmissing-prototypes", "-Wshadow", "-Wconversion", "-Wunused-parameter", "-Wunused-function")
# -fcf-protection needs nothing of musl; _FORTIFY_SOURCE is glibc's own
# musl-gcc's specs take -static-pie for a dynamic link, so the init is not position-independent
INIT_HARDENING = ("-fno-pie", "-no-pie", "-fstack-protector-strong", "-fstack-clash-protection")
HOST_HARDENING = ("-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fstack-clash-protection")
# set by `make test-sanitized`: address and undefined-behaviour checks in the extension, traps in the init
SANITIZE = os.environ.get("PYRUNTIME_SANITIZE") == "1"
PT_INTERP = 3
class MissingDependencyError(SystemExit):
    """One line that names the Debian package."""


def missing(what: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(f"pyruntime: cannot build: {what} not found; install Debian's package {package}")


def find_musl_gcc() -> str:
    """Path of musl-gcc, or of what MUSL_GCC names."""
    compiler = shutil.which(os.environ.get("MUSL_GCC", "musl-gcc"))
    if compiler is None:
        raise missing("musl-gcc", "musl-tools")
    return compiler


def check_compiler() -> None:
    """The one that setuptools is going to call, which musl-gcc calls as well."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise missing(compiler, "gcc")


def check_headers() -> None:
    """The C library's, the kernel's (musl brings none), the bound libraries' and the interpreter's must be there."""
    system = {"stdio.h": "libc6-dev", "linux/openat2.h": "linux-libc-dev", "linux/mount.h": "linux-libc-dev",
              "seccomp.h": "libseccomp-dev", "sys/capability.h": "libcap-dev"}
    for header, package in system.items():
        if not any((directory / header).exists() for directory in include_directories()):
            raise missing(f"<{header}>", package)
    if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise missing("<Python.h>", "python3-dev")


def include_directories() -> list[pathlib.Path]:
    """Where the system's headers are; musl-gcc looks at neither by itself."""
    directories = [pathlib.Path("/usr/include")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if not multiarch:
        multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
    if multiarch:
        directories.append(directories[0] / multiarch)
    return directories


def build_static(program: pathlib.Path, *sources: pathlib.Path, defines: tuple[str, ...] = ()) -> None:
    """Compile a program that needs nothing of the machine that it runs on."""
    compiler = find_musl_gcc()
    check_compiler()
    check_headers()
    command = [compiler, "-std=gnu11", "-Os", "-static", "-s", "-ffunction-sections",
               "-Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack", *WARNINGS, *INIT_HARDENING, *defines, "-I", str(program.parent), "-I",
               str(NATIVE)]
    if SANITIZE:
        command += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    for include in include_directories():
        command += ["-idirafter", str(include)]
    subprocess.run([*command, "-o", str(program), *map(str, sources)], check=True)
    check_static(program)


def build_init(directory: pathlib.Path) -> pathlib.Path:
    """Compile the static init into directory; return its path."""
    image = directory / "pyruntime-init"
    build_static(image, *(NATIVE / f"{name}.c" for name in INIT_SOURCES))
    return image


def build_front(directory: pathlib.Path, python_directory: str) -> pathlib.Path:
    """Compile the front end of the command line into directory; return its path. A copy of it looks for Python's part in the other."""
    program = directory / "pyruntime"
    write_if_new(directory / "front_options.h", option_table())
    host = (name for name in HOST_SOURCES if name not in OF_LIBRARIES)
    build_static(program, *(NATIVE / f"{name}.c" for name in (*FRONT_SOURCES, *host)), embed(build_init(directory), directory),
                 defines=(f"-DPYTHON_DIRECTORY={json.dumps(python_directory, ensure_ascii=False)}",))
    return program


def option_table() -> str:
    """A C header with every option of pyruntime/cli/arguments.py that the front end may meet, and the signals' names."""
    # they import nothing that would have to be installed
    arguments, plain = (importlib.import_module(f"pyruntime.cli.{name}") for name in ("arguments", "plain"))
    fills = {"": arguments.declare_global, **{name: arguments.COMMANDS[name].fill for name in FRONT_COMMANDS}}
    rows = []
    for command, fill in fills.items():
        declared = plain.Declarations()
        fill(declared)
        rows += [f'    {{"{command}", "{spelling}", "{option.destination}", {int(option.action != "store_true")}}},'
                 for spelling, option in declared.options.items()]
    signals = [f'    {{"{name}", {number.value}}},' for name, number in signal.Signals.__members__.items()]
    return "\n".join(["static const struct option_row option_rows[] = {", *rows, "};", "static const struct signal_row signal_rows[] = {",
                      *signals, "};", f"#define SIGNAL_NUMBERS {signal.NSIG}", f'#define DEFAULT_ROOT "{arguments.DEFAULT_ROOT}"', ""])


def check_static(image: pathlib.Path) -> None:
    """The init must not load a library of the host into a container: no program header may name an interpreter."""
    data = image.read_bytes()
    (table,) = struct.unpack_from("=Q", data, 32)
    size, count = struct.unpack_from("=HH", data, 54)
    if any(struct.unpack_from("=I", data, table + i * size)[0] == PT_INTERP for i in range(count)):
        raise SystemExit(f"pyruntime: {image} is not a static program; is {find_musl_gcc()} a musl compiler?")


def embed(image: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """A C file that holds the image as an array."""
    data = image.read_bytes()
    source = directory / "init_image.c"
    rows = [",".join(map(str, data[at:at + 64])) for at in range(0, len(data), 64)]
    source.write_text("#include <stdint.h>\n"
                      "extern const unsigned char init_image[];\nextern const uint64_t init_image_size;\n"
                      "const unsigned char init_image[] = {\n" + ",\n".join(rows) + "\n};\n"
                      f"const uint64_t init_image_size = {len(data)};\n"
                      f"extern const uint64_t build_identity;\nconst uint64_t build_identity = {identity()}ULL;\n"
                      f'extern const char build_commit[];\nconst char build_commit[] = "{commit()}";\n')
    return source


def identity() -> int:
    """Of all that plans depend on."""
    digest = hashlib.sha256()
    for path in sorted((*NATIVE.glob("*.[ch]"), *(ROOT / "pyruntime").rglob("*.py"))):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:8], "little")


def commit() -> str:
    """What git says of the sources; "unknown" where they are no checkout, or are somebody else's."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return "unknown"
    told = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"], capture_output=True, text=True,
                          check=False)
    return told.stdout.strip() if told.returncode == 0 else "unknown"


def write_if_new(path: pathlib.Path, text: str) -> None:
    """Without it whatever depends on the file would be compiled again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def make_ffibuilder() -> cffi.FFI:
    """The cffi module `pyruntime._native`."""
    directory = ROOT / "build" / ("sanitized" if SANITIZE else "init")
    directory.mkdir(parents=True, exist_ok=True)
    image_source = embed(build_init(directory), directory)
    write_if_new(directory / "front_options.h", option_table())
    ffi = cffi.FFI()
    for name in ABI_HEADERS:
        ffi.cdef((NATIVE / f"{name}.h").read_text())
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"] if SANITIZE else []
    generated = "".join(f'#pragma GCC diagnostic ignored "{warning}"\n' for warning in CFFI_WARNINGS)
    included = "".join(f'#include "{name}.h"\n' for name in ("plan", *ABI_HEADERS[1:]))
    ffi.set_source("pyruntime._native", included + generated, py_limited_api=True,
                   sources=[os.path.relpath(path, ROOT) for path in
                            (*(NATIVE / f"{name}.c" for name in HOST_SOURCES), image_source)],
                   depends=[os.path.relpath(NATIVE / f"{name}.h", ROOT) for name in HEADERS],
                   include_dirs=["native", os.path.relpath(directory, ROOT)],
                   extra_compile_args=["-std=gnu11", "-O2", *WARNINGS, *HOST_HARDENING, *sanitize],
                   libraries=["seccomp"],
                   extra_link_args=["-Wl,-z,relro,-z,now,-z,noexecstack", *sanitize])
    return ffi


# which setuptools brings, and has to be imported before
build_scripts = importlib.import_module("distutils.command.build_scripts").build_scripts


class BuildFront(build_scripts):  # type: ignore[misc,valid-type]  # it has no types
    """The program `pyruntime` among the scripts."""

    def get_source_files(self) -> list[str]:
        return []

    def run(self) -> None:
        directory = ROOT / "build" / ("sanitized" if SANITIZE else "init")
        directory.mkdir(parents=True, exist_ok=True)
        self.mkpath(self.build_dir)
        to = pathlib.Path(self.build_dir, "pyruntime")
        shutil.copyfile(build_front(directory, sysconfig.get_path("scripts")), to)
        to.chmod(0o755)


class _Backend(build_meta._BuildMetaBackend):  # type: ignore[misc]  # setuptools offers no public class
    def run_setup(self, setup_script: str = "setup.py") -> None:
        os.chdir(ROOT)
        # objects of the one build are of no use to the other
        options = {"bdist_wheel": {"py_limited_api": "cp311"}, "build": {"build_base": "build/sanitized" if SANITIZE else "build"}}
        setuptools.setup(cffi_modules=["build.py:make_ffibuilder"], options=options, scripts=["pyruntime"],
                         cmdclass={"build_scripts": BuildFront})


_backend = _Backend()
build_wheel = _backend.build_wheel
build_sdist = _backend.build_sdist
build_editable = _backend.build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_editable = _backend.get_requires_for_build_editable
