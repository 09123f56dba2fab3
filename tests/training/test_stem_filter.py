"""--keep trains only on the stems that pass; masked_seed{seed}.csv holds the shares that the mask left out."""

from __future__ import annotations

import dataclasses
import math
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from my_submission.src import train
from my_submission.src.audio.tracks import Track
from my_submission.src.common import cli, stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config, load_config
from my_submission.src.dataset import RandomMixes, batches, open_tracks
from my_submission.src.loss import quantile, squared_errors
from my_submission.src.training.distributed import World
from my_submission.src.training.loop import Run
from my_submission.src.training.mask_tally import MaskTally
from my_submission.src.training.run_folder import RunFolder
from my_submission.src.training.stem_filter import KeepError, keep_stems, kept_counts
from my_submission.src.training.trainer import Trainer
from tests.helpers.training import INSTRUMENTS, RATE, tone, write_config, write_track, write_tracks

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path / "config.yaml"))


@pytest.fixture
def command(tmp_path: Path, data: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process; returns its status and its output."""

    def run(*options: object) -> tuple[int, str]:
        argv = ["-c", tmp_path / "config.yaml", "--data_path", data, "--model_path", tmp_path / "run", "--num_workers", 0]
        try:
            status = cli.run(train.main, [str(word) for word in [*argv, *options]])
        except SystemExit as leaving:  # the parser's
            status = leaving.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def write_audit(path: Path, **changes: str | None) -> Path:
    """Write a table in which all stems of `write_tracks` pass, but for changes: track0_bass="score,keep", None for no line."""
    values: dict[str, str | None] = {f"track{i}_{name}": "0.5," for i in range(3) for name in INSTRUMENTS} | changes
    lines = [f"{stem.replace('_', ',')},{value}" for stem, value in values.items() if value is not None]
    path.write_text("\n".join(["track,instrument,score,keep", *lines]))
    return path


def dropped(tracks: Sequence[Track]) -> set[str]:
    return {f"{track.name}/{name}" for track in tracks for name in track.dropped}


def test_a_mark_decides_before_the_score(tmp_path: Path, data: Path, config: Config) -> None:
    tracks = open_tracks([data], config)
    changes = {
        "track0_bass": "-1,yes",
        "track1_bass": "9,no",
        "track2_bass": "0,",
        "track0_drums": "-1e-9,",
        "track0_other": ",",
    }
    audit = write_audit(tmp_path / "audit.csv", **changes, track1_drums=", Yes", track2_drums="?,NO")
    assert dropped(keep_stems(tracks, audit, config)) == {"track1/bass", "track0/drums", "track2/drums", "track0/other"}
    kept = keep_stems(tracks, audit, config, threshold=-0.1)
    assert dropped(kept) == {"track1/bass", "track2/drums", "track0/other"}
    assert kept_counts(kept, INSTRUMENTS) == "9 of 12 stems (vocals 3, drums 2, bass 2, other 2)"
    assert [track.stems for track in kept] == [track.stems for track in tracks]


def test_a_dropped_stem_is_never_drawn_but_the_others_of_its_track_are(data: Path, config: Config) -> None:
    tracks = open_tracks([data], config)
    kept = [
        dataclasses.replace(track, dropped=frozenset(names))
        for track, names in zip(tracks, ([], ["bass"], ["bass", "drums"]), strict=True)
    ]
    half = dataclasses.replace(config, training=dataclasses.replace(config.training, same_song=0.5))
    for how, count in ((config, 60), (half, 60)):
        mixes = RandomMixes(kept, how, seed=1)
        samples = [mixes[index] for index in range(count)]
        drawn = [set(tracks) for tracks in zip(*(sample.tracks.tolist() for sample in samples), strict=True)]
        assert drawn == [{0, 1, 2}, {0, 1}, {0}, {0, 1, 2}]
        song = tracks[0].stems["bass"].read(0, tracks[0].num_samples)[0]
        for sample in samples[:10]:  # the audio is from the track that the sample names
            chunk = sample.sources[2, 0].numpy()
            assert any((song[i : i + 960] == chunk).all() for i in np.flatnonzero(song == chunk[0]))
    alone = sum(sample.tracks.tolist() == [0, 0, 0, 0] for sample in samples)  # the only whole track
    assert alone > 20
    unmarked = RandomMixes(tracks, config, seed=1)
    assert not any(torch.equal(unmarked[i].sources, mixes[i].sources) for i in range(3))


REFUSED: dict[str, tuple[dict[str, str | None], str]] = {
    "mark": ({"track1_bass": "1,maybe"}, "keep of track1/bass is 'maybe', expected yes, no, or nothing to go by the score"),
    "score": ({"track1_bass": "0;5,"}, "score of track1/bass is '0;5', expected a number; or write yes or no under keep"),
    "nan": ({"track1_bass": "nan,"}, "score of track1/bass is 'nan', expected a number; or write yes or no under keep"),
    "unnamed": (
        {"track0_bass": None, **dict.fromkeys([f"track1_{name}" for name in INSTRUMENTS])},
        "is of other data: it does not name track0/bass, track1/vocals, track1/drums and 2 more. Name the data it was made "
        "from with --data-path, or make it again from this data",
    ),
    "unknown": (
        {"track0_bass": None, "track0_piano": "1,", "track9_bass": "1,"},
        "is of other data: it does not name track0/bass; it names track0/piano, track9/bass, not in the data. Name the data",
    ),
    "nothing": (
        {"track0_bass": "1,no", "track1_bass": "-0.1,", "track2_bass": "-7,"},
        "no stem of bass passes, and bass could not be learned; lower --keep-threshold (it is 0), or mark stems that are "
        "right with yes under keep",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_does_not_fit_the_data_is_refused(tmp_path: Path, data: Path, config: Config, case: str) -> None:
    changes, message = REFUSED[case]
    audit = write_audit(tmp_path / "audit.csv", **changes)
    with pytest.raises(KeepError) as refusal:
        keep_stems(open_tracks([data], config), audit, config)
    assert str(refusal.value).startswith(f"{audit}: {message}")


def test_same_song_needs_a_track_whose_stems_all_pass(tmp_path: Path, data: Path, config: Config) -> None:
    together = dataclasses.replace(config, training=dataclasses.replace(config.training, same_song=0.25))
    audit = write_audit(tmp_path / "audit.csv", track0_bass="-1,", track1_drums="-1,", track2_other="-1,")
    tracks = open_tracks([data], config)
    assert len(dropped(keep_stems(tracks, audit, config))) == 3
    with pytest.raises(
        KeepError,
        match=r"of no track all stems pass, but training.same_song is 0.25 and needs such tracks; set it to 0, or lower",
    ):
        keep_stems(tracks, audit, together)


def rename(data: Path, name: bytes) -> str:
    """Rename track0 and return its new name."""
    return (data / "track0").rename(data / os.fsdecode(name)).name


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_accents_may_be_composed_or_decomposed(tmp_path: Path, data: Path, config: Config, on_disk: str, in_table: str) -> None:
    rename(data, unicodedata.normalize(on_disk, "Motörhead").encode())
    audit = write_audit(tmp_path / "audit.csv", track0_bass="-1,")
    text = audit.read_text().replace("track0", unicodedata.normalize(in_table, "Motörhead"))
    audit.write_text(text, encoding="utf-8")
    for skip in (False, True):
        tracks = keep_stems(open_tracks([data], config), audit, config, skip_bad_tracks=skip)
        assert [track.dropped for track in tracks] == [{"bass"}, set(), set()]


@pytest.mark.parametrize("skip", [False, True])
def test_a_table_that_is_not_utf_8_is_named_as_such(tmp_path: Path, data: Path, config: Config, skip: bool) -> None:
    rename(data, "Motörhead".encode())
    audit = write_audit(tmp_path / "audit.csv")
    audit.write_bytes(audit.read_bytes().replace(b"track0", "Motörhead".encode("cp1252")))
    with pytest.raises(KeepError) as refusal:
        keep_stems(open_tracks([data], config), audit, config, skip_bad_tracks=skip)
    assert str(refusal.value) == (
        f"{audit}: is not UTF-8: save it as CSV UTF-8 (it names 'Mot\\udcf6rhead/bass', which is not in the data)"
    )


def test_a_folder_whose_name_is_not_utf_8_is_found_in_the_table(tmp_path: Path, config: Config) -> None:
    name = os.fsdecode("Motörhead".encode("cp1252"))
    audit = tmp_path / "audit.csv"
    rows = [{"track": track, "instrument": stem, "score": -1 if (track, stem) == (name, "bass") else 1, "keep": None}
            for track in (name, "track1", "track2") for stem in INSTRUMENTS]  # fmt: skip
    stem_table.write(audit, ("track", "instrument", "score", "keep"), rows)
    tracks = keep_stems([Track(tmp_path / track) for track in (name, "track1", "track2")], audit, config)
    assert dropped(tracks) == {f"{name}/bass"}


def test_two_tracks_of_one_name_are_refused(tmp_path: Path, data: Path, config: Config) -> None:
    other = write_tracks(tmp_path / "other", 1)
    with pytest.raises(KeepError) as refusal:
        keep_stems(open_tracks([data, other], config), write_audit(tmp_path / "audit.csv"), config)
    assert str(refusal.value) == (
        f"--keep tells tracks apart by their names, but track0 is in {data} and in {other}; train on one folder, or rename one "
        "of them"
    )


def test_the_table_may_name_tracks_that_were_skipped(tmp_path: Path, data: Path, command: Command) -> None:
    (data / "track0" / "drums.wav").unlink()
    audit = write_audit(tmp_path / "audit.csv", track1_bass="-1,")
    options = ("--keep", audit, "--num_steps", 1, "--skip_bad_tracks")
    status, printed = command(*options)
    assert status == 0
    assert f"--keep {audit} at a threshold of 0: 7 of 8 stems (vocals 2, drums 2, bass 1, other 2)\n" in printed
    write_audit(audit, track1_bass=None)
    status, printed = command(*options)
    assert (status, f"error: {audit}: is of other data: it does not name track1/bass. Name" in printed) == (2, True)


def test_a_run_is_resumed_only_with_the_same_stems(tmp_path: Path, command: Command) -> None:
    audit = write_audit(tmp_path / "audit.csv", track0_bass="-1,", track1_bass="-0.2,")
    folder, options = tmp_path / "run", ("--keep", audit, "--keep-threshold", "-0.1")
    status, printed = command("--keep", tmp_path / "none.csv")
    assert (status, f"error: {tmp_path}/none.csv: cannot be read (No such file or directory)" in printed) == (2, True)
    status, printed = command("--keep-threshold", "1")
    assert (status, "--keep-threshold is for the scores of a table, but there is none: name one with" in printed) == (2, True)
    status, printed = command(*options, "--keep-threshold", "high")
    assert (status, "argument --keep-threshold: invalid float value: 'high'" in printed) == (2, True)
    assert not folder.exists()

    status, printed = command(*options, "--num_steps", 10)
    assert status == 0
    summary = f"--keep {audit} at a threshold of -0.1: 10 of 12 stems (vocals 3, drums 3, bass 1, other 3)"
    assert f"\n{summary}\n" in printed
    for name in ("train_seed0.yaml", "config.yaml"):
        assert f"\n# {summary}\n" in (folder / name).read_text()
        assert load_config(folder / name).training.num_steps == 10
    rows = stem_table.read(RunFolder(folder, 0).masked_table, ["chunks", "masked"])
    chunks = {f"{row['track']}/{row['instrument']}": int(row["chunks"]) for row in rows}
    assert [chunks[f"track{i}/bass"] for i in range(3)] == [0, 0, 60]
    assert min(number for stem, number in chunks.items() if not stem.endswith("bass")) > 5
    assert [(row["track"], row["masked"]) for row in rows[-2:]] == [("track0", ""), ("track1", "")]

    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
    write_audit(audit, track0_bass="-1,", track1_drums="-1,")
    status, printed = command(*options, "--num_steps", 12)
    assert status == 2
    found = "with another --keep, or none, it now draws from track1/bass and leaves out track1/drums.\nPut it back to go on"
    assert found in printed
    status, printed = command("--num_steps", 12)
    assert (status, "with another --keep, or none, it now draws from track0/bass, track1/bass.\n" in printed) == (2, True)
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == before
    write_audit(audit, track0_bass="2,no", track1_bass="2,no")  # the same stems fail, for another reason
    status, printed = command("--keep", audit, "--num_steps", 12)
    assert (status, "going on from step 10" in printed) == (0, True)


def test_machines_with_different_tables_are_refused() -> None:
    class Two(World):
        def gather(self, value: object) -> list[object]:
            return [value, {"tracks": ["a", "b"], "dropped": ["a/bass"]}] if isinstance(value, dict) else [value, value]

    with pytest.raises(UserError, match=r"the processes leave out different stems \(0 on rank 0, 1 on rank 1\); give every"):
        train._refuse_different_data({"tracks": ["a", "b"], "dropped": []}, Two())
    train._refuse_different_data({"tracks": ["a", "b"], "dropped": ["a/bass"]}, Two())


def test_the_masked_table_counts_the_shares_left_out(tmp_path: Path, data: Path, config: Config, command: Command) -> None:
    """The same counts as by hand: a second trainer takes the same steps."""
    assert command("--num_steps", 10)[0] == 0
    mixes = RandomMixes(open_tracks([data], config), config, seed=0)
    trainer = Trainer(config, seed=0, device=torch.device("cpu"), precision="fp32")
    chunks, masked = np.zeros((3, 4), int), np.zeros((3, 4))
    for step in range(10):
        samples = [mixes[step * 6 + item] for item in range(6)]
        batch = torch.stack([sample.sources for sample in samples])
        with torch.no_grad():
            errors = squared_errors(trainer.network(batch.sum(dim=1)), batch, mask="coarse")
        left_out = errors >= quantile(errors, config.training.q)[0][:, None]  # [S, B]
        for item, sample in enumerate(samples):
            for source, track in enumerate(sample.tracks.tolist()):
                chunks[track, source] += 1
                masked[track, source] += left_out[source, item].item()
        trainer.step(batch)
    folder = RunFolder(tmp_path / "run", 0)
    rows = stem_table.read(folder.masked_table, ["chunks", "masked"])
    found = {(row["track"], row["instrument"]): (int(row["chunks"]), float(row["masked"])) for row in rows}
    assert found == {
        (f"track{i}", name): (chunks[i, source], pytest.approx(masked[i, source] / chunks[i, source], rel=1e-5))
        for i in range(3)
        for source, name in enumerate(INSTRUMENTS)
    }
    assert sum(count * share for count, share in found.values()) == pytest.approx(10 * 4 * 4, rel=1e-5)  # 4 of 6, 4 sources
    shares = [float(row["masked"]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    folder.masked_table.unlink()
    assert command("--num_steps", 10)[0] == 0  # no step is left; the results are written again
    assert [float(row["masked"]) for row in stem_table.read(folder.masked_table, ["masked"])] == shares
    assert command("--num_steps", 1, "--restart")[0] == 0
    assert sum(int(row["chunks"]) for row in stem_table.read(folder.masked_table, ["chunks"])) == 6 * 4
    folder.delete_states()  # as --restart does; the next table is written at the first save
    assert not folder.masked_table.exists()


def test_a_tally_computed_by_hand(tmp_path: Path, config: Config) -> None:
    one = dataclasses.replace(config, training=dataclasses.replace(config.training, target_instrument="bass"))
    folders = [write_tracks(tmp_path / name, 2) for name in ("a", "b")]
    tracks = open_tracks([*folders, folders[1]], config)  # a/track0 a/track1 b/track0 b/track1 and b's once more
    tally = MaskTally(tracks, one)
    tally.add([[9, 9, 0, 9], [9, 9, 3, 9], [9, 9, 0, 9], [9, 9, 5, 9]], [[1.0], [0.25], [0.0], [1.0]])
    again = MaskTally(tracks, one)
    again.load_state_dict(tally.state_dict())
    again.add([[9, 9, 0, 9], [9, 9, 3, 9]], [[0.0], [0.5]])
    again.write(tmp_path / "masked.csv")
    assert (tmp_path / "masked.csv").read_text().splitlines() == [
        "track,instrument,chunks,masked",
        "a/track0,bass,3,0.666667",
        "b/track1,bass,3,0.416667",
        "a/track1,bass,0,",
        "b/track0,bass,0,",
    ]
    far = write_tracks(tmp_path / "far" / "a", 2)
    MaskTally(open_tracks([folders[0], far], config), one).write(tmp_path / "masked.csv")
    assert [row["track"] for row in stem_table.read(tmp_path / "masked.csv", [])] == sorted(
        str(folder / f"track{i}") for folder in (folders[0], far) for i in range(2)
    )


def test_a_step_without_a_finite_loss_is_not_counted(tmp_path: Path, data: Path, config: Config) -> None:
    trainer = Trainer(config, seed=0, device=torch.device("cpu"), precision="fp32")
    run = Run(trainer, RunFolder(tmp_path / "run", 0), tracks=open_tracks([data], config))
    batch = next(batches(RandomMixes(run.tracks, config, seed=0), range(1), 6))
    run._count(batch, trainer.step(batch.sources * math.inf))
    assert run.tally.chunks.sum() == 0
    run._count(batch, trainer.step(batch.sources))
    assert run.tally.chunks.sum() == 24


def test_a_mislabelled_stem_comes_first_in_the_masked_table(tmp_path: Path, command: Command) -> None:
    """The tracks sound alike; otherwise the mask of so small a network would leave out hard stems as often as wrong ones."""
    songs = tmp_path / "songs"
    for i in range(4):
        write_track(songs / f"track{i}")
    soundfile.write(songs / "track1" / "drums.wav", tone("bass", 6000), RATE)
    write_config(tmp_path / "config.yaml", lr=0.01, q=0.7)
    assert command("--data_path", songs, "--num_steps", 60)[0] == 0
    first, second, *_ = stem_table.read(RunFolder(tmp_path / "run", 0).masked_table, ["masked"])
    assert (first["track"], first["instrument"]) == ("track1", "drums")
    assert float(first["masked"]) > float(second["masked"]) + 0.15  # about 0.7 and 0.4
