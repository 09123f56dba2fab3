"""Training data: one report of all problems, and samples that depend on seed and index alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from my_submission.src import dataset
from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import TrackError
from my_submission.src.config import Config, load_config
from my_submission.src.dataset import DatasetError, RandomMixes, batches, open_tracks, share_of
from tests.helpers.training import INSTRUMENTS, RATE, tone, write_config, write_track, write_tracks

DRAWN = [[2, 0, 2, 0], [2, 1, 2, 1], [2, 1, 1, 2]]  # tracks of the first samples of seed 3; old runs must stay resumable


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path / "config.yaml"))


def broken_data(folder: Path) -> Path:
    """Write two good tracks, and one bad track for each problem."""
    write_tracks(folder, 2)
    for name in ("missing", "twice", "unreadable", "cut", "rate", "mono", "lengths", "silent", "two_things", ".hidden"):
        write_track(folder / name)
    (folder / "empty").mkdir()
    (folder / "missing" / "drums.wav").unlink()
    soundfile.write(folder / "twice" / "bass.flac", tone("bass", 6000), RATE)
    (folder / "unreadable" / "bass.wav").write_text("no audio")
    data = (folder / "cut" / "other.wav").read_bytes()
    (folder / "cut" / "other.wav").write_bytes(data[: len(data) // 2])
    soundfile.write(folder / "rate" / "vocals.wav", tone("vocals", 6000), 48000)
    soundfile.write(folder / "mono" / "drums.wav", tone("drums", 6000)[:, 0], RATE)
    soundfile.write(folder / "lengths" / "bass.wav", tone("bass", 5999), RATE)
    soundfile.write(folder / "silent" / "vocals.wav", np.zeros((6000, 2)), RATE)
    (folder / "two_things" / "vocals.wav").unlink()
    soundfile.write(folder / "two_things" / "other.wav", np.zeros((6000, 2)), 22050)
    (folder / "readme.txt").write_text("files next to the tracks are ignored")
    return folder


def test_one_report_lists_all_problems(tmp_path: Path, config: Config) -> None:
    data = broken_data(tmp_path / "data")
    with pytest.raises(TrackError) as refusal:
        open_tracks([data], config)
    first, *problems, last = str(refusal.value).splitlines()
    assert first == f"{data}: 10 of 12 tracks cannot be used:"
    assert last == "fix them, or leave them out with --skip-bad-tracks"
    found = {line.split(": ")[0].strip().rpartition("/")[2]: line.partition(": ")[2] for line in problems}
    reasons = {
        "cut": "other.wav: is cut off",
        "empty": "vocals is missing; drums is missing; bass is missing; other is missing",
        "lengths": "stems of different length (vocals.wav 6000, drums.wav 6000, bass.wav 5999, other.wav 6000 samples)",
        "missing": "drums is missing",
        "mono": "drums.wav is mono, expected 2 channels",
        "rate": "vocals.wav is at 48000 Hz, expected 44100",
        "silent": "vocals.wav is silent throughout",
        "twice": "bass is there twice (bass.flac, bass.wav), expected one file",
        "two_things": "vocals is missing; other.wav is at 22050 Hz, expected 44100; other.wav is silent throughout",
        "unreadable": "bass.wav: is not audio that libsndfile can read",
    }
    assert list(found) == sorted(reasons)
    for name, reason in reasons.items():
        assert found[name].startswith(reason), name


def test_bad_tracks_can_be_left_out(tmp_path: Path, config: Config) -> None:
    data = broken_data(tmp_path / "data")
    with pytest.warns(UserWarning, match="10 of 12 tracks cannot be used") as warned:
        tracks = open_tracks([data], config, skip_bad_tracks=True)
    assert str(warned[0].message).endswith("going on without them")
    assert [(track.name, track.num_samples) for track in tracks] == [("track0", 5000), ("track1", 5700)]


@pytest.mark.parametrize("skip", [False, True])
def test_it_is_an_error_if_no_track_is_left(tmp_path: Path, config: Config, skip: bool) -> None:
    (write_track(tmp_path / "data" / "only") / "bass.wav").unlink()
    with pytest.raises(TrackError, match=r"1 of 1 tracks cannot be used:\n.*bass is missing\nfix them, or name another folder"):
        open_tracks([tmp_path / "data"], config, skip_bad_tracks=skip)


def test_a_folder_without_tracks_is_refused(tmp_path: Path, config: Config) -> None:
    with pytest.raises(TrackError, match=r"nowhere: cannot be read .*, expected a folder of tracks"):
        open_tracks([tmp_path / "nowhere"], config)
    track = write_track(tmp_path / "track")  # one level too deep
    with pytest.raises(TrackError, match=r"track: no tracks there, expected folders that each hold vocals.wav, drums.wav"):
        open_tracks([track], config)


def test_several_folders_follow_each_other(tmp_path: Path, config: Config) -> None:
    later, earlier = write_tracks(tmp_path / "b", 1), write_tracks(tmp_path / "a", 2)
    assert [track.folder.parent.name for track in open_tracks([later, earlier], config)] == ["b", "a", "a"]


def test_start_up_reads_few_samples(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stem with sound in its middle is probed once; a stem with a single click is read whole; neither is called silent."""
    folder = write_track(tmp_path / "data" / "track", 100_000)
    lonely = np.zeros((100_000, 2))
    lonely[3210, 1] = 0.1
    soundfile.write(folder / "bass.wav", lonely, RATE)
    read = []
    original = AudioFile.read
    monkeypatch.setattr(AudioFile, "read", lambda self, *place: read.append(self.path.stem) or original(self, *place))
    open_tracks([tmp_path / "data"], config)
    assert {name: read.count(name) for name in INSTRUMENTS} == {"vocals": 1, "drums": 1, "bass": dataset.PROBES, "other": 1}


def test_a_sample_holds_chunks_of_the_files(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)
    mixes = RandomMixes(tracks, config, seed=5)
    stems = [[stem.read(0, track.num_samples) for stem in track.stems.values()] for track in tracks]
    drawn, mixed = set(), set()
    for index in range(30):
        sources, numbers = mixes[index]
        assert sources.shape == (4, 2, 960)
        assert sources.dtype == torch.float32
        for source, chunk in enumerate(sources.numpy()):
            places = [
                (i, start)
                for i, track in enumerate(stems)
                for start in np.flatnonzero(track[source][0, : -960 + 1] == chunk[0, 0])
                if (track[source][:, start : start + 960] == chunk).all()
            ]
            assert places, f"source {source} of sample {index} is in no track"
            assert places[0][0] == numbers[source]
            drawn.add((source, places[0][0]))
            mixed.add((index, places[0]))
    assert len(drawn) == 12  # every stem of every track
    assert len(mixed) > 110  # of 120: each stem of a sample is drawn independently


def test_a_sample_depends_on_seed_and_index_alone(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data")], config)
    mixes = RandomMixes(tracks, config, seed=3)
    expected = [[mixes[step * 5 + item] for item in range(5)] for step in range(4)]
    assert [mixes[index].tracks.tolist() for index in range(3)] == DRAWN
    for workers, ranks, first in [(0, 1, 0), (2, 1, 0), (0, 3, 0), (1, 2, 2)]:
        shares = [list(batches(mixes, range(first, 4), 5, rank=rank, ranks=ranks, workers=workers)) for rank in range(ranks)]
        for step in range(first, 4):
            for part in ("sources", "tracks"):
                batch = torch.cat([getattr(share[step - first], part) for share in shares])
                wanted = torch.stack([getattr(sample, part) for sample in expected[step]])
                assert torch.equal(batch, wanted), (workers, ranks, first, step, part)
    assert not torch.equal(mixes[0].sources, mixes[1].sources)
    assert not torch.equal(mixes[0].sources, RandomMixes(tracks, config, seed=4)[0].sources)


def test_gains_and_samples_from_one_song_are_drawn_as_configured(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)

    def mixes(**changes: object) -> RandomMixes:
        return RandomMixes(tracks, replace(config, training=replace(config.training, **changes)), seed=0)

    plain, louder = mixes(), mixes(gain_db=(6.0, 6.0))
    torch.testing.assert_close(louder[3].sources, plain[3].sources * 10 ** (6 / 20))
    gains = torch.cat([mixes(gain_db=(-6.0, 6.0))[i].sources[:, 0, 0] / plain[i].sources[:, 0, 0] for i in range(10)])
    assert 0.5 < gains.min() < 0.7
    assert 1.4 < gains.max() < 2
    half = mixes(same_song=0.5)
    together = 0
    for index in range(40):
        chunks = half[index].sources.numpy()
        whole = [np.stack([stem.read(0, track.num_samples) for stem in track.stems.values()]) for track in tracks]
        starts = [np.flatnonzero((song[:, 0, : -960 + 1] == chunks[:, 0, :1]).all(axis=0)) for song in whole]
        found = any(
            (song[..., i : i + 960] == chunks).all() for song, places in zip(whole, starts, strict=True) for i in places
        )
        assert found or torch.equal(half[index].sources, plain[index].sources)  # the other samples are as without same_song
        together += found
        assert not found or len(set(half[index].tracks.tolist())) == 1
    assert 10 < together < 30


def test_the_shares_of_all_ranks_make_up_the_batch() -> None:
    for size in range(1, 13):
        for ranks in range(1, size + 1):
            shares = [list(share_of(size, rank, ranks)) for rank in range(ranks)]
            assert [item for share in shares for item in share] == list(range(size))
            assert {len(share) for share in shares} <= {size // ranks, size // ranks + 1}


def test_quiet_chunks_are_drawn_again(tmp_path: Path, config: Config) -> None:
    folder = write_track(tmp_path / "data" / "track", 9600)
    half = tone("bass", 9600)
    half[:8000] = 0
    soundfile.write(folder / "bass.wav", half, RATE)
    mixes = RandomMixes(open_tracks([tmp_path / "data"], config), config, seed=0)
    assert min(mixes[index].sources[2].abs().mean().item() for index in range(40)) >= config.audio.min_mean_abs


def test_of_a_stem_that_is_quiet_everywhere_the_loudest_chunk_is_taken(tmp_path: Path, config: Config) -> None:
    for i in range(2):
        folder = write_track(tmp_path / "data" / f"track{i}", 9600, seed=i)
        soundfile.write(folder / "drums.wav", np.linspace(0, 1, 9600)[:, None] * tone("drums", 9600) / 1000, RATE, "FLOAT")
    mixes = RandomMixes(open_tracks([tmp_path / "data"], config), config, seed=0)
    with pytest.warns(UserWarning, match=r"drums: 100 chunks drawn in a row were quieter than audio.min_mean_abs = 0.01"):
        sample = mixes[0].sources
    assert sample[1].abs().mean() > 0.8 * 0.0001  # the loudest of many is from the loud end


def test_a_track_shorter_than_a_chunk_is_padded_with_zeros(tmp_path: Path, config: Config) -> None:
    write_track(tmp_path / "data" / "short", 700)
    sample = RandomMixes(open_tracks([tmp_path / "data"], config), config, seed=0)[0].sources
    assert sample.shape == (4, 2, 960)
    assert (sample[:, :, 700:] == 0).all()
    assert (sample[:, :, 690:700].abs().amax(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_during_training_is_named_in_the_error(tmp_path: Path, config: Config, workers: int) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 1)], config)
    (tmp_path / "data" / "track0" / "bass.flac").write_bytes(b"gone")
    with pytest.raises(DatasetError, match=r"bass.flac: is not audio .*\nthe same command goes on from the last save"):
        next(batches(RandomMixes(tracks, config, 0), range(3), 2, workers=workers))
