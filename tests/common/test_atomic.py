"""Atomic files and folders of several processes in one folder: names, locks, and what killed processes leave."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from my_submission.src.common import atomic, locks
from my_submission.src.common.atomic import atomic_file, atomic_folder, clear_dead, hidden_folder
from my_submission.src.common.locks import Lock, exclusive, lock_file
from tests.helpers.dead import leave_dead

LONGEST = "n" * 255  # bytes, on most file systems


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    with atomic_file(tmp_path / LONGEST) as partial:
        partial.write_text("a")
        assert len(partial.name) < 32
    with atomic_folder(tmp_path / ("é" * 127)) as partial:
        (partial / "b").touch()
    assert names(tmp_path) == [LONGEST, "é" * 127]
    assert (tmp_path / LONGEST).read_text() == "a"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_the_ordinary_ones(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as partial:
            partial.write_text("a")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "file") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "deep" / "er" / "folder") as partial:
        (partial / "half").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_folder_that_was_filled_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "song"), atomic_folder(tmp_path / "song") as first:
        (first / "first").touch()
    assert names(tmp_path) == ["song"]
    assert names(tmp_path / "song") == ["first"]


def test_only_the_files_of_dead_processes_are_deleted(tmp_path: Path) -> None:
    with hidden_folder(tmp_path) as living, atomic_file(tmp_path / "file") as also_living:
        (living / "a").touch()
        leave_dead(tmp_path)
        mine = tmp_path / ".song.partial"
        mine.touch()  # not a name of ours
        clear_dead(tmp_path)
        assert names(tmp_path) == sorted([living.name, also_living.name, mine.name])
        assert names(living) == ["a"]
    for write in (atomic_file, atomic_folder):
        leave_dead(tmp_path)
        with write(tmp_path / write.__name__) as partial:
            assert names(tmp_path) == sorted({partial.name, *names(tmp_path)} - {"left"})
    assert names(tmp_path) == [".song.partial", "atomic_file", "atomic_folder", "file"]
    clear_dead(tmp_path / "nowhere")


def hold(folder: Path, ready: object) -> None:
    with hidden_folder(folder) as partial:
        (partial / "stem.wav").write_text("half a stem")
        ready.set()
        time.sleep(60)


def test_another_living_process_keeps_its_folder_until_it_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready), daemon=True)
    other.start()
    assert ready.wait(30)
    with atomic_folder(tmp_path / "song"):
        pass
    hidden, _ = names(tmp_path)
    assert names(tmp_path / hidden) == ["stem.wav"]
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with atomic_folder(tmp_path / "another"):
        pass
    assert names(tmp_path) == ["another", "song"]


def test_a_worker_process_does_not_keep_its_dead_parents_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with hidden_folder(tmp_path):
            worker = os.fork()
            if worker == 0:
                os.write(writer, b"%d\n" % os.getpid())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
    worker = int(os.read(reader, 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    clear_dead(tmp_path)
    os.kill(worker, signal.SIGKILL)
    assert names(tmp_path) == []


def test_a_folder_that_is_taken_for_a_dead_ones_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thefts = iter([True, True, False])

    class Late(Lock):
        def __init__(self, path: Path) -> None:
            if next(thefts):
                clear_dead(tmp_path)  # as another process would at this moment
            super().__init__(path)

    monkeypatch.setattr(atomic, "Lock", Late)
    made = []
    monkeypatch.setattr(atomic, "_delete_if_dead", lambda path, same_machine: (made.append(path), path.rmdir()))
    with hidden_folder(tmp_path) as partial:
        assert len({*made, partial}) == 3
        assert names(tmp_path) == [partial.name]


def test_folders_of_another_machine_are_deleted_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_machine", lambda: "01234567")
    theirs = leave_dead(tmp_path)
    monkeypatch.undo()
    clear_dead(tmp_path)
    assert theirs.exists()
    old = time.time() - 2 * atomic.DAY
    os.utime(theirs, (old, old))
    clear_dead(tmp_path)
    assert theirs.exists()  # a file in it is new
    for path in (theirs / "left.wav", theirs):
        os.utime(path, (old, old))
    clear_dead(tmp_path)
    assert not theirs.exists()


@pytest.mark.parametrize("system", ["without locks", "whose file system has no locks"])
def test_without_locks_nothing_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    theirs = leave_dead(tmp_path)
    if system == "without locks":
        monkeypatch.setattr(locks, "fcntl", None)
    else:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with atomic_file(tmp_path / "file") as partial:
        partial.write_text("a")
    with atomic_folder(tmp_path / "folder"), exclusive(tmp_path / "file"):
        assert lock_file(tmp_path / "lock") is None
    assert names(tmp_path) == [theirs.name, "file", "folder", "lock"]


def test_a_lock_is_exclusive_and_ends_with_its_release(tmp_path: Path) -> None:
    first = lock_file(tmp_path / "new" / "file")
    with pytest.raises(BlockingIOError):
        lock_file(tmp_path / "new" / "file")
    first.release()
    first.release()
    second = lock_file(tmp_path / "new" / "file")
    (tmp_path / "new" / "file").unlink()
    third = lock_file(tmp_path / "new" / "file")  # another file of this name
    second.release()
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "new" / "file")
    third.release()


def contend(folder: Path, number: int, barrier: object) -> None:
    barrier.wait(30)
    for turn in range(40):
        with atomic_file(folder / "file") as partial:
            partial.write_text("x" * 1000)
        with contextlib.suppress(FileExistsError), atomic_folder(folder / "deep" / str(turn)) as partial:
            for name in "ab":
                (partial / name).write_text(str(number))
        with contextlib.suppress(KeyError), hidden_folder(folder / "empty" / "again"):
            raise KeyError


def test_many_processes_may_write_the_same_names(tmp_path: Path, all_end_well: Callable[..., None]) -> None:
    all_end_well(contend, tmp_path, processes=4)
    assert set(names(tmp_path)) - {"empty"} == {"deep", "file"}
    assert list(tmp_path.rglob(".*")) == []
    assert len((tmp_path / "file").read_text()) == 1000
    for turn in range(40):
        assert len({path.read_text() for path in (tmp_path / "deep" / str(turn)).iterdir()}) == 1
        assert names(tmp_path / "deep" / str(turn)) == ["a", "b"]


@pytest.fixture
def all_end_well() -> Callable[..., None]:
    """Return a function that runs a target in several processes at once and checks that none fails."""

    def run(target: Callable[..., None], folder: Path, processes: int) -> None:
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(processes)
        started = [context.Process(target=target, args=(folder, k, barrier), daemon=True) for k in range(processes)]
        for process in started:
            process.start()
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [0] * processes

    return run


def test_a_signal_at_any_place_leaves_nothing_hidden(tmp_path: Path, run_python: Callable[..., object]) -> None:
    """The exception of a signal's handler may come when a folder is made, and before any `finally` knows of it."""
    code = f"""
from pathlib import Path
from my_submission.src.common import atomic
def made(path):
    path.mkdir()
    raise SystemExit(143)
atomic._make_folder = made
with atomic.hidden_folder(Path({str(tmp_path)!r})):
    pass
"""
    assert run_python("-c", code).returncode == 143
    assert list(tmp_path.iterdir()) == []
