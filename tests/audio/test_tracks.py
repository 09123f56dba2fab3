"""Tracks are found in order, opened lazily, and refused with a message that says what a track has to hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track, TrackError, find_tracks


def test_tracks_keep_the_order_of_folders_and_are_sorted_within_each(tmp_path: Path) -> None:
    for name in ("z/two", "z/one", "z/.hidden", "a/three"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "z" / "readme.txt").touch()
    tracks = find_tracks([tmp_path / "z", str(tmp_path / "a")], "stems")
    assert [(track.folder.parent.name, track.name) for track in tracks] == [("z", "one"), ("z", "two"), ("a", "three")]
    assert [track.stems for track in tracks] == [{}, {}, {}]


def test_a_folder_without_tracks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full" / "track").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    message = "empty: no tracks there, expected folders that each hold a mixture.wav"
    with pytest.raises(TrackError, match=message):
        find_tracks([tmp_path / "full", tmp_path / "empty"], "a mixture.wav")
    with pytest.raises(TrackError, match=r"none: cannot be read \(No such file or directory\), expected a folder of tracks"):
        find_tracks([tmp_path / "none"], "a mixture.wav")
    with pytest.raises(TrackError, match=r"none: cannot be read \(No such file or directory\), expected a folder of stems"):
        Track(tmp_path / "none").paths  # noqa: B018


def test_a_track_knows_its_files(tmp_path: Path) -> None:
    for name in ("vocals.wav", "bass.flac", "drums.flac", "drums.wav", "keys.WAV", "mixture.wav", ".bass.wav", "bass.txt"):
        (tmp_path / name).touch()
    track = Track(tmp_path)
    assert [path.name for path in track.paths] == [
        "bass.flac",
        "drums.flac",
        "drums.wav",
        "keys.WAV",
        "mixture.wav",
        "vocals.wav",
    ]
    assert track.mixtures == [tmp_path / "mixture.wav"]
    assert track.paths_of("bass") == [tmp_path / "bass.flac"]
    assert track.paths_of("drums") == [tmp_path / "drums.wav", tmp_path / "drums.flac"]
    assert track.paths_of("other") == []


def test_a_track_knows_which_of_its_stems_sound(tmp_path: Path) -> None:
    sound = np.zeros((100_000, 1))
    soundfile.write(tmp_path / "silent.wav", sound, 8000)
    sound[-1] = 0.5
    soundfile.write(tmp_path / "click.wav", sound, 8000)
    track = Track(tmp_path, {name: AudioFile(tmp_path / f"{name}.wav") for name in ("silent", "click")})
    assert track.sounding == ("click",)
    assert track.num_samples == 100_000
