"""Run a command as root on Debian's stock kernel, with cgroup v2 alone and every controller of it.

    python3 tests/vm/run.py [--systemd] [--kernel FILE] [--timeout SECONDS] [--accel kvm] COMMAND...

The kernel runs in QEMU. The command sees this machine's files, which the virtual machine cannot change: what is written stays in its
memory. It is run in the current directory, its output is passed on as it comes, and its status is this program's; 125 if the
virtual machine fails, 124 if the time is over. /dev/vda is an empty disk.

Newer kernels than the emulator sometimes crash while they patch themselves at boot: one that the command has not begun in is started
again.
"""

from __future__ import annotations

import argparse
import glob
import lzma
import os
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

TIME_IS_OVER, MACHINE_FAILED = 124, 125
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtiofs", "overlay", "loop", "tun")
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"  # Debian 12: package qemu-system-common
MEMORY = "3072M"
DISK_BYTES = 64 << 20
BOOTS_MAX = 4
# without submounts; the project is bound once more, because it may be on one
READ_ONLY = """
mount --make-rprivate /
for path in / "$2"; do mount --bind "$path" "$1$path"; mount -o remount,bind,ro "$1$path"; done
shift 2; exec "$@"
"""


def newest_kernel() -> Path:
    kernels = glob.glob("/boot/vmlinuz-*")
    if not kernels:
        raise SystemExit("no kernel in /boot: apt-get install linux-image-cloud-amd64")
    return Path(max(kernels, key=os.path.getmtime))


class Kernel:
    """A kernel as a Debian package lays it out: ROOT/boot/vmlinuz-VERSION and ROOT/lib/modules/VERSION."""

    def __init__(self, image: Path) -> None:
        self.image = image.resolve()
        self.version = image.name.removeprefix("vmlinuz-")
        self.root = self.image.parents[1]
        self.modules = self.root / "lib/modules"


def module_files(kernel: Kernel) -> list[str]:
    """The modules and what they depend on, in the order in which they can be loaded."""
    files: list[str] = []
    if not (kernel.modules / kernel.version / "modules.dep").exists():  # installing a package makes it, unpacking does not
        raise SystemExit(f"nothing tells which modules need which: depmod -b {kernel.root} {kernel.version}")
    for name in MODULES:
        shown = subprocess.run(["modprobe", "-d", kernel.root, "-S", kernel.version, "--show-depends", name], check=True,
                               capture_output=True, text=True)
        files += [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod ")]
    return list(dict.fromkeys(files))


def copy_module(module: Path, to: Path) -> None:
    """As the kernel takes it: newer packages have them compressed."""
    data = module.read_bytes()
    to.write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)


def make_initramfs(directory: Path, kernel: Kernel, command: list[str], end: str, has_systemd: bool) -> Path:
    tree = directory / "initramfs"
    for name in ("bin", "modules", "run"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copy(Path(__file__).with_name("init.sh"), tree / "init")
    (tree / "init").chmod(0o755)
    if has_systemd:
        shutil.copytree(Path(__file__).with_name("units"), tree / "units")
    for i, file in enumerate(module_files(kernel)):
        copy_module(Path(file), tree / f"modules/{i:02}-{Path(file).name.removesuffix('.xz')}")
    (tree / "run/settings").write_text(f"project={shlex.quote(os.getcwd())}\nmodules={shlex.quote(str(kernel.modules))}\n")
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
    (tree / "run/command").write_text(
        "until [ -e /dev/vport*p1 ]; do sleep 0.1; done\n"
        "port=$(echo /dev/vport*p1)\n"
        "exec 3>$port\n"
        f"cd {shlex.quote(os.getcwd())}\n"
        "printf '\\000' >&3\n"
        f"setsid -w env -i {shlex.join(f'{name}={value}' for name, value in environment.items())} {shlex.join(command)} "
        "</dev/null >&3 2>&3 3>&-\n"
        f"printf '\\000{end} %d\\n' $? >&3\n"
        "while :; do sleep 1000; done\n")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    initramfs = directory / "initramfs.cpio"
    with initramfs.open("wb") as archive:
        subprocess.run(["/bin/busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=archive,
                       stderr=subprocess.DEVNULL, check=True)
    return initramfs


def start(command: list[str], stdout: int | None = None, stderr: BinaryIO | None = None) -> subprocess.Popen[bytes]:
    """It ends with this program, however that ends."""
    # its input must not end: QEMU would take the port for closed, and the virtual machine would wait to write
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.PIPE, stdout=stdout,
                            stderr=stderr)


def share_files(directory: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A server of this machine's files, read-only, and its socket."""
    socket, root = directory / "files.socket", directory / "root"
    root.mkdir()
    log = directory / "files.log"
    with log.open("wb") as stderr:
        server = start(["unshare", "--mount", "sh", "-ec", READ_ONLY, "sh", str(root), os.getcwd(), VIRTIOFSD, "-f",
                        f"--socket-path={socket}", "-o", f"source={root}", "-o", "cache=always", "-o", "sandbox=chroot",
                        "-o", "log_level=err"], stderr=stderr)
    while not socket.exists():
        if server.poll() is not None:
            raise SystemExit(f"virtiofsd did not start: {log.read_text(errors='replace')}")
        time.sleep(0.01)
    return server, socket


def boot(directory: Path, kernel: Kernel, initramfs: Path, files: Path, accel: str, parameters: str) -> subprocess.Popen[bytes]:
    processor = "host" if accel == "kvm" else "max,la57=off"  # five-level page tables are slow to emulate
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    return start(["qemu-system-x86_64", "-machine", "q35,memory-backend=memory", "-accel", accel, "-cpu", processor, "-smp", "2",
                  "-m", MEMORY, "-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on",
                  "-kernel", str(kernel.image), "-initrd", str(initramfs),
                  "-append", "console=ttyS0 quiet panic=-1 oops=panic random.trust_cpu=on mitigations=off " + parameters,
                  "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{directory}/console",
                  "-chardev", f"socket,id=files,path={files}", "-device", "vhost-user-fs-pci,chardev=files,tag=root",
                  "-drive", f"if=none,id=disk,file={disk},format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
                  "-chardev", "stdio,id=output,signal=off", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output"],
                 stdout=subprocess.PIPE)


class MachineFailedError(Exception):
    """The virtual machine ended before the command did; `has_begun` tells whether the command had."""

    def __init__(self, has_begun: bool) -> None:
        super().__init__("the virtual machine ended before the command")
        self.has_begun = has_begun


def pass_output_on(source: int, end: bytes, deadline: float) -> int:
    """From the byte that says that the command begins until the end mark: the status behind it. Raises MachineFailedError,
    TimeoutError."""
    held, has_begun = b"", False
    while True:
        if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("the time is over")
        data = os.read(source, 65536 if has_begun else 1)
        if not data:
            raise MachineFailedError(has_begun)
        if not has_begun:
            has_begun = True
            continue
        held += data
        while held:
            text, mark, rest = held.partition(b"\0")
            sys.stdout.buffer.write(text)
            held = mark + rest
            if not mark or (len(rest) < len(end) and end.startswith(rest)):
                break  # all is passed on, or this may be the end mark
            if rest.startswith(end):
                if rest.endswith(b"\n"):
                    return int(rest.split()[1])
                break
            sys.stdout.buffer.write(mark)
            held = rest
        sys.stdout.buffer.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds")
    parser.add_argument("--accel", default="tcg", choices=["tcg", "kvm"], help="kvm: quicker, where it can boot a stock kernel")
    parser.add_argument("--systemd", action="store_true", help="as the first process, with a system bus")
    parser.add_argument("--kernel", type=Path, help="default: the newest /boot/vmlinuz-*; modules are looked for at ../lib/modules from there")
    parser.add_argument("--parameters", default="", help="more of the kernel's command line")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left
    deadline = time.monotonic() + arguments.timeout
    for attempt in range(BOOTS_MAX):
        try:
            return run(arguments, deadline)
        except MachineFailedError as error:
            if error.has_begun or attempt == BOOTS_MAX - 1:
                return MACHINE_FAILED
            print("starting it again", file=sys.stderr)
        except TimeoutError:
            return TIME_IS_OVER
    raise AssertionError


def run(arguments: argparse.Namespace, deadline: float) -> int:
    """In a new virtual machine: the command's status. Raises MachineFailedError and TimeoutError, once it has told them."""
    kernel = Kernel(arguments.kernel or newest_kernel())
    end = secrets.token_hex(16)
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="pyruntime-vm-", dir="/var/tmp") as name:
        directory = Path(name)
        initramfs = make_initramfs(directory, kernel, arguments.command, end, arguments.systemd)
        try:
            server, files = share_files(directory)
            running.append(server)
            machine = boot(directory, kernel, initramfs, files, arguments.accel, arguments.parameters)
            running.append(machine)
            assert machine.stdout is not None
            return pass_output_on(machine.stdout.fileno(), end.encode(), deadline)
        except (MachineFailedError, TimeoutError) as error:
            console = (directory / "console").read_text(errors="replace")
            print(error, "its console:", console[-4000:], sep="\n", file=sys.stderr)
            raise
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
