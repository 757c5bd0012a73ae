"""The store, in a temporary directory."""

from __future__ import annotations

import datetime
import os
import threading
from pathlib import Path

import pytest

from pyruntime.cgroups.paths import Cgroup
from pyruntime.errors import ContainerExistsError, ContainerNotFoundError, DamagedStateError, InvalidIdError, SetupError
from pyruntime.state import ContainerRecord, ProcessRecord, Store
from pyruntime.state.store import check_id


def make_record(id: str = "c") -> ContainerRecord:
    return ContainerRecord(id, "1.0.2", "/b", "/b/rootfs", 7, 1234, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), 5, False,
                           (Cgroup("/sys/fs/cgroup/pyruntime/c", 14, (), True),), {"a": "b"})


def save(store: Store, record: ContainerRecord) -> None:
    store.prepare(record)
    store.commit(record.id)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


@pytest.mark.parametrize("id", ["a", "A-1_+.x", "+", "-", "x" * 255])
def test_good_ids(id: str) -> None:
    check_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", ".a", "a/b", "a b", "é", "a\n", "a\0", "x" * 256])
def test_bad_ids(id: str, store: Store) -> None:
    for refuse in (check_id, store.add, store.load, store.exists):
        with pytest.raises(InvalidIdError):
            refuse(id)


def test_a_record_comes_back(store: Store) -> None:
    directory = store.add("c")
    save(store, make_record())
    assert store.load("c") == make_record()
    assert store.exists("c") and store.ids() == ["c"]
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.listdir(directory) == ["state.json"]


def test_a_second_container_of_the_id(store: Store) -> None:
    store.add("c")
    with pytest.raises(ContainerExistsError):
        store.add("c")


def test_what_is_missing(store: Store) -> None:
    assert store.ids() == [] and not store.exists("c")
    with pytest.raises(ContainerNotFoundError):
        store.load("c")
    with pytest.raises(ContainerNotFoundError), store.locked("c"):
        pass
    store.remove("c")
    store.add("c")
    with pytest.raises(DamagedStateError, match="missing"):
        store.load("c")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id":"c"}', b"\xff\xfe", b'{"id":1}'])
def test_a_damaged_record(store: Store, content: bytes) -> None:
    path = Path(store.add("c"), "state.json")
    path.write_bytes(content)
    with pytest.raises(DamagedStateError) as caught:
        store.load("c")
    assert caught.value.file == str(path)
    store.remove("c")
    assert not store.exists("c")


def test_a_record_of_another_container(store: Store) -> None:
    store.add("c")
    save(store, make_record())
    store.add("d")
    os.link(f"{store.directory('c')}/state.json", f"{store.directory('d')}/state.json")
    with pytest.raises(DamagedStateError, match="of container 'c'"):
        store.load("d")


def test_a_large_record(store: Store) -> None:
    store.add("c")
    record = ContainerRecord("c", "1", "/b", "/r", 1, 2, datetime.datetime.now(datetime.UTC), 0, False, (),
                             {"k": "v" * (1 << 17)})
    save(store, record)
    assert store.load("c") == record


def test_process_records(store: Store) -> None:
    store.add("c")
    assert store.processes("c") == [] and store.load_process("c", 10) is None
    for pid in (30, 4):
        store.add_process("c", ProcessRecord(pid, 1))
    ended = ProcessRecord(4, 1, 137, 9, 0.001234, 12.5, 1 << 20)
    store.end_process("c", ProcessRecord(4, 1), ended)
    assert store.processes("c") == [ended, ProcessRecord(30, 1)]
    assert store.load_process("c", 4) == ended
    store.remove_process("c", ended)
    store.remove_process("c", ended)
    assert store.processes("c") == [ProcessRecord(30, 1)]
    with pytest.raises(FileNotFoundError):
        store.end_process("c", ProcessRecord(4, 1), ended)
    store.remove("c")
    assert store.ids() == []


def test_of_two_processes_of_one_pid_the_later_counts(store: Store) -> None:
    store.add("c")
    for start_time in (12, 7):
        store.add_process("c", ProcessRecord(5, start_time))
    assert store.load_process("c", 5) == ProcessRecord(5, 12)


@pytest.mark.parametrize("record", [ProcessRecord(1, 2), ProcessRecord(1, 2, 0), ProcessRecord(1, 2, 255, None, 0.0, 0.000001),
                                    ProcessRecord(4194304, 1 << 40, 139, 11, 1e6, 0.5, 1 << 44), ProcessRecord(1, 2, 137, 9, oom_killed=True),
                                    ProcessRecord(1, 2, 137, 9, oom_killed=False)])
def test_a_process_record_is_its_name(record: ProcessRecord) -> None:
    assert ProcessRecord.parse(record.name()) == record


@pytest.mark.parametrize("name", ["", "1", "1.", "a.b", "1.2.3", "-.2", "1.2.-.-.-.-.-.-", "1.2.3.4.5.6.7", "1.2.3.4.5.6.7.8.9", "1.2.new"])
def test_other_names_are_no_process_records(store: Store, name: str) -> None:
    assert ProcessRecord.parse(name) is None
    store.add("c")
    (Path(store.directory("c")) / f"process-{name}").touch()
    assert store.processes("c") == []


def test_a_prepared_record_does_not_count(store: Store) -> None:
    store.add("c")
    store.prepare(make_record())
    with pytest.raises(DamagedStateError, match="under way"):
        store.load("c")
    store.commit("c")
    assert store.load("c") == make_record()


def test_the_lock_of_a_deleted_container_is_not_its_successors(store: Store) -> None:
    store.add("c")
    inodes = [os.stat(store.directory("c")).st_ino]
    held = store.locked("c")
    held.__enter__()
    opened: list[int] = []

    def wait_for_the_lock() -> None:
        with store.locked("c"):
            locks = Path("/proc/locks").read_text()
            opened.extend(inode for inode in inodes if f":{inode} " in locks)

    waiting = threading.Thread(target=wait_for_the_lock)
    waiting.start()
    await_flock_waiter(store.directory("c"))
    store.remove("c")
    store.add("c")
    inodes.append(os.stat(store.directory("c")).st_ino)
    held.__exit__(None, None, None)
    waiting.join(10)
    assert inodes[0] != inodes[1] and opened == inodes[1:]


def await_flock_waiter(directory: str) -> None:
    """Until a thread waits for the lock of a directory; the kernel marks waiters by an arrow."""
    inode = f":{os.stat(directory).st_ino} "
    for _ in range(10_000):
        if any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()):
            return
        os.sched_yield()
    raise AssertionError("nobody waits for the lock")


def test_an_exit_of_init_stands_by_itself(store: Store) -> None:
    directory = store.add("c")
    assert store.load_exit("c") is None
    store.save_exit("c", ProcessRecord(7, 1234, 3))
    assert store.load_exit("c") == ProcessRecord(7, 1234, 3) and store.load_process("c", 7) is None
    assert store.processes("c") == [] and os.listdir(directory) == ["exit-7.1234.3.-.-.-.-.-"]
    store.remove("c")
    assert not os.path.exists(directory)


def test_an_exit_of_a_container_that_was_deleted_meanwhile(store: Store) -> None:
    store.add("c")
    store.remove("c")
    store.save_exit("c", ProcessRecord(7, 1234, 3))
    assert store.ids() == []


def test_what_somebody_has_put_into_a_directory_goes_with_it(store: Store) -> None:
    directory = Path(store.add("c"))
    store.save_cgroup("c", "/pyruntime/c")
    (directory / "more" / "below").mkdir(parents=True)
    (directory / "more" / "link").symlink_to("/")
    store.remove("c")
    assert store.ids() == []
    store.remove("c")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_root_that_others_can_change_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(SetupError) as raised:
        Store(str(root)).add("c1")
    assert (raised.value.step, raised.value.path, raised.value.errno_name) == ("use root directory", str(root), "EPERM")
    assert not list(root.iterdir())


def test_root_that_others_can_read_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(0o755)
    Store(str(root)).add("c1")
    assert (root / "c1").stat().st_mode & 0o7777 == 0o700
