"""The containers below a root, as one runtime object sees them: what is on disk, and what it holds of those that it made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pyruntime import errors
from pyruntime.interface import ContainerState, Status
from pyruntime.runtimes.identity import require_process
from pyruntime.runtimes.live import Entry
from pyruntime.runtimes.status import status_of
from pyruntime.state import ContainerRecord, Store
from pyruntime.state.store import check_id


class HeldContainers:
    """What NativeRuntime's operations have in common."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Entry] = {}
        self._entries_lock = threading.Lock()

    def container_owner(self, id: str) -> int:
        """The uid of who has made a container. Raises ContainerNotFoundError."""
        return self._store.owner(id)

    def _open(self, id: str) -> tuple[ContainerRecord, Entry]:
        """What is on disk and what is held of a container. Raises ContainerNotFoundError, DamagedStateError."""
        check_id(id)
        entry = self._entries.get(id)
        if entry is not None and entry.record is not None and entry.init is not None and not entry.init.has_ended():
            return entry.record, entry  # nobody has deleted it: its init, which we would reap, runs
        try:
            record = self._store.load(id)
        except errors.ContainerNotFoundError:
            self._drop(id)
            raise
        return record, self._entry(id)

    def _entry(self, id: str) -> Entry:
        entry = self._entries.get(id)
        if entry is None:
            with self._entries_lock:
                entry = self._entries.setdefault(id, Entry())
        return entry

    def _drop(self, id: str) -> None:
        """Close what is held of a container that has ended, here or by another process's doing."""
        with self._entries_lock:
            entry = self._entries.pop(id, None)
        if entry is not None:
            for live in (entry.init, *entry.processes.values()):
                if live is not None and live.has_ended():
                    live.wait()
                    live.close()

    @contextlib.contextmanager
    def _locked(self, id: str) -> Iterator[Entry]:
        """Hold a container against other threads and other processes while its status changes."""
        check_id(id)
        entry = self._entry(id)
        try:
            with entry.lock, self._store.locked(id):
                yield entry
        except errors.ContainerNotFoundError:
            self._drop(id)
            raise

    @staticmethod
    def _init_pidfd(record: ContainerRecord, entry: Entry) -> contextlib.AbstractContextManager[int]:
        """Entering it gives a pidfd of init. Raises ProcessLookupError if it has ended and is forgotten."""
        return entry.init.pidfd if entry.init is not None else require_process(record.pid, record.start_time)

    def _status(self, record: ContainerRecord, entry: Entry | None) -> Status:
        return status_of(record, entry, self._store.directory(record.id))

    def _state(self, record: ContainerRecord, entry: Entry | None) -> ContainerState:
        status = self._status(record, entry)
        return ContainerState(record.oci_version, record.id, 0 if status is Status.STOPPED else record.pid,
                              record.bundle_path, record.rootfs_path, status, record.created, record.annotations)
