"""The folder of a run: the file names, which must never change, and the files that a new start deletes."""

from __future__ import annotations

from pathlib import Path

from my_submission.src.config import load_config
from my_submission.src.training.run_folder import RunFolder
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
    for path in (folder.state(5), folder.checkpoint(5), other.state(5)):
        path.with_name(f".{path.name}.partial").touch()
    folder.prepare(config, "# a heading\n")
    assert [path.name for path in run.glob(".*")] == [".state_seed11_step5.pt.partial"]
    assert folder.state(4).exists()
    folder.prepare(config, "# a heading\n", restart=True)
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        *("config.yaml", "train_seed1.yaml", "best_seed1.ckpt", "step4_seed1.ckpt"),
        *("state_seed11_step4.pt", "masked_seed11.csv"),
    }
