"""The folder of a run: the file names, which must never change, and the files that a new start deletes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from my_submission.src.common.atomic import atomic_file
from my_submission.src.config import load_config
from my_submission.src.training.run_folder import FolderError, RunFolder
from tests.helpers.dead import leave_dead
from tests.helpers.training import write_config


def test_the_file_names_of_a_run_do_not_change() -> None:
    folder = RunFolder(Path("runs/A"), seed=3)
    assert folder.config == Path("runs/A/config.yaml")
    assert folder.seed_config == Path("runs/A/train_seed3.yaml")
    assert folder.log == Path("runs/A/train_seed3.jsonl")
    assert folder.tensorboard == Path("runs/A/tensorboard/seed3")
    assert folder.masked_table == Path("runs/A/masked_seed3.csv")
    assert folder.best == Path("runs/A/best_seed3.ckpt")
    assert folder.checkpoint(100000) == Path("runs/A/step100000_seed3.ckpt")
    assert folder.state(500) == Path("runs/A/state_seed3_step500.pt")


def test_states_are_listed_from_the_newest_and_only_of_the_seed(tmp_path: Path) -> None:
    for name in ("state_seed1_step9.pt", "state_seed1_step10.pt", "state_seed10_step11.pt", "state_seed1_step12.pt.old"):
        (tmp_path / name).touch()
    assert RunFolder(tmp_path, seed=1).states() == [tmp_path / "state_seed1_step10.pt", tmp_path / "state_seed1_step9.pt"]
    assert RunFolder(tmp_path / "none", seed=1).states() == []


def test_a_start_deletes_only_files_of_its_own_seed(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path / "config.yaml"))
    run = tmp_path / "run"
    run.mkdir()
    folder, other = RunFolder(run, seed=1), RunFolder(run, seed=11)
    for path in (folder.state(4), folder.masked_table, folder.best, folder.checkpoint(4), other.state(4), other.masked_table):
        path.touch()
    with atomic_file(other.state(5)) as living:
        leave_dead(run)
        folder.prepare(config, "# a heading\n")
        assert list(run.glob(".*")) == [living]
    assert folder.state(4).exists()
    folder.prepare(config, "# a heading\n", restart=True)
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        *("config.yaml", "train_seed1.yaml", "best_seed1.ckpt", "step4_seed1.ckpt"),
        *("state_seed11_step4.pt", "state_seed11_step5.pt", "masked_seed11.csv"),
    }


def prepare_at_once(config: Path, folders: list[Path], seed: int, barrier: object, failures: object) -> None:
    """Prepare the folders one after another, each at the same moment as the other processes; the target of a process."""
    loaded = load_config(config)
    for folder in folders:
        barrier.wait(30)
        try:
            with RunFolder(folder, seed).claimed():
                RunFolder(folder, seed).prepare(loaded, "# a heading\n")
                barrier.wait(30)
        except BaseException as error:
            failures.put(f"{type(error).__name__}: {error}")
            barrier.abort()
            raise


def test_three_seeds_that_start_at_once_share_a_folder(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml")
    folders = [tmp_path / "runs" / str(number) for number in range(30)]
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(3), context.SimpleQueue()
    seeds = [
        context.Process(target=prepare_at_once, args=(config, folders, seed, barrier, failures), daemon=True)
        for seed in range(3)
    ]
    for process in seeds:
        process.start()
    for process in seeds:
        process.join(60)
    assert failures.empty(), failures.get()
    assert [process.exitcode for process in seeds] == [0, 0, 0]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", *(f"train_seed{k}.yaml" for k in range(3))]
        assert load_config(folder / "config.yaml") == load_config(config)


def test_a_seed_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "A"
    with RunFolder(run, 0).claimed():
        message = "A: another process is training seed 0 there; wait until it has ended, or take another --seed"
        with pytest.raises(FolderError, match=message), RunFolder(run, 0).claimed():
            pass
        with RunFolder(run, 1).claimed():
            pass
    assert not (tmp_path / "runs").exists()  # nothing was trained
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be written to"), RunFolder(tmp_path / "file" / "run", 0).claimed():
        pass
