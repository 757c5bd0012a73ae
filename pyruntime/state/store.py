"""The directories below the root: `<root>/<id>/` with `state.json`, `cgroup` (a link that names the container's cgroup from the
hierarchies' roots: known before anything is made, so that whatever happens can be cleaned up), `resctrl` (the groups that go with it,
for the same reason; few have some), `start` (a socket, until it is started), `failure` (what was heard of a start that failed, of which
Python has to tell), and an empty file for each exec process, `process-...`, and for init once it has been waited for, `exit-...`: their
names are the records. The directory itself is what is locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Iterator

import msgspec

from pyruntime.errors import ContainerExistsError, ContainerNotFoundError, DamagedStateError, InvalidIdError, SetupError
from pyruntime.native import files
from pyruntime.state.names import NOTIFY_DIRECTORY
from pyruntime.state.record import ContainerRecord, ProcessRecord

DEFAULT_ROOT = "/run/pyruntime"
_STATE = "state.json"
_FAILURE = "failure"
_EXIT = "exit-"
_CGROUP = "cgroup"
_RESCTRL = "resctrl"
_PROCESS = "process-"
_EMPTY_FILE = stat.S_IFREG | 0o600
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")

_encoder = msgspec.json.Encoder()


@functools.cache
def _container_decoder() -> msgspec.json.Decoder[ContainerRecord]:
    """Made where it is used: that takes longer than reading a record."""
    return msgspec.json.Decoder(ContainerRecord)


def root_for(root: str, is_rootless: bool) -> str:
    """What is given; without privileges DEFAULT_ROOT stands for one in the user's own runtime directory. Raises SetupError where there is
    no such."""
    if root != DEFAULT_ROOT or not is_rootless:
        return root
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(directory):
        return f"{directory.rstrip('/')}/pyruntime"
    if os.geteuid() == 0:  # of a user namespace, as in a container
        return DEFAULT_ROOT
    what = f"{directory!r} and no absolute path" if directory else "not set"
    raise SetupError("choose root directory", None, 0, None, "a user other than root has it in the directory XDG_RUNTIME_DIR, which is "
                     f"{what}; another one can be given")


def check_id(id: str) -> None:
    """Raises InvalidIdError unless the id is a file name of `[a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*`."""
    if not isinstance(id, str) or not id:
        raise InvalidIdError(str(id), "it is empty" if id == "" else "it is not a string")
    if len(id) > 255:
        raise InvalidIdError(id[:40] + "...", f"it has {len(id)} characters, at most 255 can be a file name")
    if id[0] == ".":
        raise InvalidIdError(id, "it begins with a dot")
    if not _ID_CHARACTERS.issuperset(id):
        wrong = next(character for character in id if character not in _ID_CHARACTERS)
        raise InvalidIdError(id, f"{wrong!r} is not one of a-z A-Z 0-9 _ + - .")


class Store:
    """The root directory (0700), made at the first container."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._is_checked = False

    def directory(self, id: str) -> str:
        return f"{self.root}/{id}"

    def add(self, id: str) -> str:
        """Make the directory of a new container. Raises ContainerExistsError, SetupError where others can change the root."""
        check_id(id)
        directory = self.directory(id)
        try:
            try:
                os.mkdir(directory, 0o700)
            except FileNotFoundError:
                os.makedirs(self.root, 0o700, exist_ok=True)
                os.mkdir(directory, 0o700)
        except FileExistsError as error:
            raise ContainerExistsError(id) from error
        except OSError as error:
            raise SetupError("make state directory", directory, error.errno or 0, None) from error
        if not self._is_checked:
            self._check_root(directory)
        return directory

    def _check_root(self, directory: str) -> None:
        """Whoever can rename what is in it chooses what is killed and removed."""
        status = os.stat(self.root)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.rmdir(directory)
            raise SetupError("use root directory", self.root, errno.EPERM, None, "others can change what is in it")
        self._is_checked = True

    def remove(self, id: str) -> None:
        """Remove the directory; one that is gone is fine."""
        directory = self.directory(id)
        try:
            files.remove_directory(directory)
        except FileNotFoundError:
            return
        except OSError:  # somebody has made directories in it
            import shutil  # which nothing else needs

            shutil.rmtree(directory, ignore_errors=True)

    def exists(self, id: str) -> bool:
        check_id(id)
        return os.path.isdir(self.directory(id))

    def owner(self, id: str) -> int:
        """The uid of a directory's owner. Raises ContainerNotFoundError."""
        try:
            return os.stat(self.directory(id)).st_uid
        except FileNotFoundError as error:
            raise ContainerNotFoundError(id, self.root) from error

    def ids(self) -> list[str]:
        """Names of all entries, sorted; those with a dot in front are of no container. Raises SetupError where the root cannot be read."""
        try:
            return sorted(entry.name for entry in os.scandir(self.root) if entry.name[0] != "." and entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SetupError("read root directory", self.root, error.errno or 0, None) from error

    @contextlib.contextmanager
    def locked(self, id: str) -> Iterator[None]:
        """Hold the container against other processes; threads of this one are held apart by the runtime."""
        check_id(id)
        while True:
            try:
                descriptor = files.lock_directory(self.directory(id))
            except FileNotFoundError as error:
                raise ContainerNotFoundError(id, self.root) from error
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise SetupError("lock", self.directory(id), error.errno or 0, None) from error
                continue
            try:
                yield
                return
            finally:
                # a child that was forked meanwhile may have a copy of the descriptor
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def make_notify_directory(self, id: str) -> None:
        """Where whoever starts the container has a socket for its program. Raises SetupError."""
        directory = f"{self.directory(id)}/{NOTIFY_DIRECTORY}"
        try:
            os.mkdir(directory)
            os.chmod(directory, 0o755)  # whatever the umask is
        except OSError as error:
            raise SetupError("make directory", directory, error.errno or 0, None) from error

    def notify_directory(self, id: str) -> str | None:
        """The same, where it was made. Raises ContainerNotFoundError."""
        self.load(id)
        directory = f"{self.directory(id)}/{NOTIFY_DIRECTORY}"
        return directory if os.path.isdir(directory) else None

    def save_cgroup(self, id: str, path: str, unit: str | None = None) -> None:
        """Remember where the container's cgroups are going to be, before they are made; or those of a unit, once it has started."""
        os.symlink(path if unit is None else f"{unit}:{path}", f"{self.directory(id)}/{_CGROUP}")

    def load_cgroup(self, id: str) -> tuple[str, str | None] | None:
        """Path and unit; None if the creation was interrupted before."""
        try:
            target = os.readlink(f"{self.directory(id)}/{_CGROUP}")
        except FileNotFoundError:
            return None
        unit, _, path = target.partition(":/")  # a path begins with a slash, and a unit's name has none
        return (f"/{path}", unit) if unit and "/" not in unit else (target, None)

    def save_resctrl(self, id: str, paths: tuple[str, ...]) -> None:
        """Remember which groups of resctrl are going to be removed with the container, before they are made."""
        files.write(f"{self.directory(id)}/{_RESCTRL}", _encoder.encode(paths))

    def load_resctrl(self, id: str) -> tuple[str, ...]:
        """Empty for a container that has none, or of which that cannot be read."""
        try:
            return msgspec.json.decode(files.read(f"{self.directory(id)}/{_RESCTRL}"), type=tuple[str, ...])
        except (FileNotFoundError, msgspec.MsgspecError):
            return ()

    def load_prepared(self, id: str) -> ContainerRecord | None:
        """What `prepare` wrote for a container that was never finished."""
        try:
            return _container_decoder().decode(files.read(f"{self.directory(id)}/{_STATE}.new"))
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def prepare(self, record: ContainerRecord) -> None:
        """Write a new container's record beside its place; `commit` makes it count."""
        files.write(f"{self.directory(record.id)}/{_STATE}.new", _encoder.encode(record))

    def commit(self, id: str) -> None:
        path = f"{self.directory(id)}/{_STATE}"
        os.rename(f"{path}.new", path)

    def load(self, id: str) -> ContainerRecord:
        """Raises InvalidIdError, ContainerNotFoundError, DamagedStateError."""
        check_id(id)
        path = f"{self.directory(id)}/{_STATE}"
        try:
            data = files.read(path)
        except FileNotFoundError as error:
            if os.path.isdir(self.directory(id)):
                raise self._incomplete(id) from error
            raise ContainerNotFoundError(id, self.root) from error
        except OSError as error:
            raise DamagedStateError(id, path, os.strerror(error.errno or 0)) from error
        try:
            record = _container_decoder().decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedStateError(id, path, str(error)) from error
        if record.id != id:
            raise DamagedStateError(id, path, f"it is of container {record.id!r}")
        return record

    def check_complete(self, id: str) -> None:
        """Raises DamagedStateError while the container is being created or if that was interrupted."""
        if not os.path.exists(f"{self.directory(id)}/{_STATE}"):
            raise self._incomplete(id)

    def _incomplete(self, id: str) -> DamagedStateError:
        return DamagedStateError(id, f"{self.directory(id)}/{_STATE}",
                                 "it is missing: its creation was interrupted or is under way")

    def load_failure(self, id: str) -> bytes | None:
        """What the front end of the command line has heard of an init whose start has failed; None where there is nothing of the kind."""
        try:
            return files.read(f"{self.directory(id)}/{_FAILURE}")
        except FileNotFoundError:
            return None

    def save_exit(self, id: str, record: ProcessRecord) -> None:
        """How init ended. A container that was deleted meanwhile is no error, nor another one who tells the same."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            os.mknod(f"{self.directory(id)}/{_EXIT}{record.name()}", _EMPTY_FILE)

    def load_exit(self, id: str) -> ProcessRecord | None:
        return next(iter(self._records(id, _EXIT)), None)

    def add_process(self, id: str, record: ProcessRecord) -> None:
        """A new exec process."""
        os.mknod(f"{self.directory(id)}/{_PROCESS}{record.name()}", _EMPTY_FILE)

    def end_process(self, id: str, record: ProcessRecord, ended: ProcessRecord) -> None:
        """How an exec process ended. Raises FileNotFoundError where it was removed meanwhile."""
        directory = self.directory(id)
        os.rename(f"{directory}/{_PROCESS}{record.name()}", f"{directory}/{_PROCESS}{ended.name()}")

    def load_process(self, id: str, pid: int) -> ProcessRecord | None:
        """The last one of that pid."""
        return next((record for record in reversed(self.processes(id)) if record.pid == pid), None)

    def remove_process(self, id: str, record: ProcessRecord) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.directory(id)}/{_PROCESS}{record.name()}")

    def processes(self, id: str) -> list[ProcessRecord]:
        """All records of exec processes, by pid and start time."""
        return self._records(id, _PROCESS)

    def _records(self, id: str, prefix: str) -> list[ProcessRecord]:
        try:
            names = os.listdir(self.directory(id))
        except FileNotFoundError:
            return []
        found: dict[tuple[int, int], ProcessRecord] = {}
        for name in names:
            record = ProcessRecord.parse(name.removeprefix(prefix)) if name.startswith(prefix) else None
            # both names may be there for one that is renamed meanwhile
            if record is not None and (record.exit_code is not None or (record.pid, record.start_time) not in found):
                found[record.pid, record.start_time] = record
        return [found[key] for key in sorted(found)]
