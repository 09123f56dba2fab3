"""Tracks are found in order, opened lazily, and refused with a message that says what a track has to hold."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track, TrackError, find_tracks, is_junk


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
    assert track.paths_of("drums") == [tmp_path / "drums.flac", tmp_path / "drums.wav"]
    assert track.paths_of("other") == []


JUNK = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".DS_Store", "Thumbs.db", "._x.wav")


@pytest.mark.parametrize("name", [*JUNK, *map(str.lower, JUNK), *map(str.upper, JUNK)])
def test_files_and_folders_of_systems_are_no_tracks_and_no_stems(tmp_path: Path, name: str) -> None:
    assert is_junk(name)
    (tmp_path / "song").mkdir()
    (tmp_path / name).mkdir()
    (tmp_path / "song" / "x.wav").touch()
    (tmp_path / "song" / name).touch()
    assert [track.name for track in find_tracks([tmp_path], "stems")] == ["song"]
    assert [path.name for path in Track(tmp_path / "song").paths] == ["x.wav"]


def test_ordinary_names_are_no_junk() -> None:
    for name in ("song", "macosx", "thumbs", "lost and found", "@ease", "Recycled", "x.wav"):
        assert not is_junk(name)


@pytest.mark.parametrize("name", ["bass.wav", "BASS.WAV", "Bass.wav", "bass.FLAC", "BaSs.Flac"])
def test_stems_are_found_whatever_their_case(tmp_path: Path, name: str) -> None:
    for other in ("._bass.wav", "bassoon.wav", "bass.mp3"):
        (tmp_path / other).touch()
    assert Track(tmp_path).find("bass") == "is missing (there is bass.mp3, expected .wav or .flac)"
    (tmp_path / name).touch()
    for instrument in ("bass", "Bass"):
        assert Track(tmp_path).find(instrument) == tmp_path / name
    (tmp_path / "bAss.wav").touch()
    both = ", ".join(sorted(["bAss.wav", name]))
    assert Track(tmp_path).find("bass") == f"is there twice ({both}), expected one file"
    (tmp_path / f"Mixture{Path(name).suffix}").touch()
    assert [path.stem for path in Track(tmp_path).mixtures] == ["Mixture"]


def test_stems_are_found_whatever_the_form_of_their_accents(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Chöre") for form in ("NFC", "NFD"))
    (tmp_path / f"{decomposed}.wav").touch()
    for name in (composed, decomposed, composed.upper()):
        assert Track(tmp_path).find(name) == tmp_path / f"{decomposed}.wav"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], ""),
        (["vocals.mp3"], " (there is vocals.mp3, expected .wav or .flac)"),
        (["Vocals.M4A", "drums.mp3"], " (there is Vocals.M4A, expected .wav or .flac)"),
        (["vocals", "vocals.stem.mp4"], " (there is vocals, vocals.stem.mp4, expected .wav or .flac)"),
        (["._vocals.wav", "my vocals.mp3"], ""),
    ],
)
def test_a_missing_stem_is_reported_with_what_is_there_instead(tmp_path: Path, names: list[str], found: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert Track(tmp_path).find("vocals") == f"is missing{found}"


def test_a_track_knows_which_of_its_stems_sound(tmp_path: Path) -> None:
    sound = np.zeros((100_000, 1))
    soundfile.write(tmp_path / "silent.wav", sound, 8000)
    sound[-1] = 0.5
    soundfile.write(tmp_path / "click.wav", sound, 8000)
    track = Track(tmp_path, {name: AudioFile(tmp_path / f"{name}.wav") for name in ("silent", "click")})
    assert track.sounding == ("click",)
    assert track.num_samples == 100_000
