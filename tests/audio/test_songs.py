"""The songs of folders: which files a folder stands for, and which are passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from my_submission.src.audio import ffmpeg
from my_submission.src.audio.files import SUFFIXES, AudioError
from my_submission.src.audio.songs import Found, find_songs, passed_over

STEMS = [("bass", "drums", "other", "vocals"), ("vocals", "rest")]

Song = Callable[..., Path]


def touch(folder: Path, *names: str) -> None:
    """Make empty files; songs are found by their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(found: Found, folder: Path) -> list[str]:
    return [str(job.path.relative_to(folder)) for job in found.jobs]


@pytest.mark.parametrize("out", ["music", "music/stems", ".", "elsewhere"])
def test_only_the_own_stems_are_passed_over(tmp_path: Path, out: str) -> None:
    songs = ["album/bass.wav", "album/song/intro.wav", "song.wav", "song2/vocals.wav"]
    touch(tmp_path / "music", *songs)
    found = find_songs([tmp_path / "music"], tmp_path / out, STEMS)
    assert names(found, tmp_path / "music") == songs
    for job in found.jobs:  # as after a run; in the folder of a song, a few stems of another format, too
        touch(job.folder, "bass.wav", "drums.wav", "other.wav", "vocals.wav", "vocals.flac")
    assert find_songs([tmp_path / "music"], tmp_path / out, STEMS).jobs == found.jobs
    touch(found.jobs[-2].folder, "my remix.wav")
    below = (tmp_path / "music") in found.jobs[-2].folder.parents
    assert len(find_songs([tmp_path / "music"], tmp_path / out, STEMS).jobs) == len(songs) + below


def test_an_album_with_the_name_of_a_song_is_no_output(tmp_path: Path) -> None:
    songs = ["Thriller.wav", "Thriller/Beat it.wav", "Thriller/vocals take 2.wav", "elsewhere/Thriller/vocals.wav"]
    touch(tmp_path, *songs)
    assert sorted(names(find_songs([tmp_path], tmp_path, STEMS), tmp_path)) == songs


def test_stems_of_another_run_are_recognized_by_the_name_of_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "music/a.wav", "old/a/rest.flac", "old/a/vocals.flac", "old/b/rest.flac", "old/b/vocals.flac")
    found = find_songs([tmp_path], tmp_path / "new", STEMS)
    assert names(found, tmp_path) == ["music/a.wav", "old/b/rest.flac", "old/b/vocals.flac"]  # no song has the name b


def test_stems_of_stems_are_passed_over_and_circles_are_not(tmp_path: Path) -> None:
    four = [f"{stem}.wav" for stem in STEMS[0]]
    touch(tmp_path, "a.wav", *(f"a/{name}" for name in four), *(f"a/vocals/{name}" for name in four))
    assert names(find_songs([tmp_path], tmp_path, STEMS), tmp_path) == ["a.wav"]
    touch(tmp_path / "circle", *(f"{folder}/{name}" for folder in ("bass", "vocals") for name in ("bass.wav", "vocals.wav")))
    touch(tmp_path / "circle", *(f"{folder}/rest.wav" for folder in ("bass", "vocals")))
    assert len(find_songs([tmp_path / "circle"], tmp_path / "out", STEMS).jobs) == 6


def test_a_stem_that_is_named_itself_is_a_song(tmp_path: Path) -> None:
    touch(tmp_path, "song.wav", "song/vocals.wav")
    inputs = [tmp_path / "song.wav", tmp_path / "song" / "vocals.wav"]
    assert len(find_songs(inputs, tmp_path, STEMS).jobs) == 2
    with pytest.raises(AudioError, match=r"song/vocals.wav: would be replaced by a stem of .*song.wav; name another --out"):
        find_songs(inputs, tmp_path, STEMS, written=["vocals"], overwrite=True)
    assert len(find_songs(inputs, tmp_path / "out", STEMS, written=["vocals"], overwrite=True).jobs) == 2


def test_songs_never_replace_themselves(tmp_path: Path) -> None:
    touch(tmp_path, "bass/bass.wav")
    assert names(find_songs([tmp_path / "bass"], tmp_path, STEMS), tmp_path) == ["bass/bass.wav"]
    with pytest.raises(AudioError, match="would be replaced"):
        find_songs([tmp_path / "bass"], tmp_path, STEMS, written=["bass"], overwrite=True)


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    music, other = tmp_path / "music", tmp_path / "other"
    touch(music, "a.wav", "album/b.wav")
    touch(other, "c.wav", "deep/d.wav")
    touch(tmp_path, "not below.wav")
    for link, target in {
        "linked": "../other",
        "again": "album",  # the folder itself is preferred
        "loop": ".",
        "up": "..",
        "self": "self",
        "broken": "nowhere",
        "album/back": "..",
    }.items():
        (music / link).symlink_to(target)
    (other / "back").symlink_to(music)
    (music / "e.wav").symlink_to(other / "c.wav")
    found = find_songs([music], tmp_path / "out", STEMS)
    assert names(found, music) == ["a.wav", "album/b.wav", "e.wav", "linked/c.wav", "linked/deep/d.wav"]
    assert found.jobs[-1].folder == tmp_path / "out" / "linked" / "deep" / "d"
    (tmp_path / "entry").symlink_to(music)
    assert len(find_songs([tmp_path / "entry"], tmp_path / "out", STEMS).jobs) == 5


def test_leftovers_of_systems_and_pages_are_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.wav", "._a.wav", ".hidden/b.wav", "page_audio/made.txt", "page_audio/track-1/c.flac", "d.txt", ".DS_Store"
    )
    for junk in ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information"):
        touch(tmp_path, f"{junk}/e.wav", f"album/{junk}/f.wav")
    found = find_songs([tmp_path], tmp_path / "out", STEMS, marker="made.txt")
    assert names(found, tmp_path) == ["a.wav"]
    assert passed_over(found) == []
    assert names(find_songs([tmp_path / "__MACOSX"], tmp_path / "out", STEMS), tmp_path) == ["__MACOSX/e.wav"]  # it is named


def test_other_audio_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    passed = "passed over, which libsndfile cannot read"
    touch(tmp_path / "one", "a.wav", "b.M4A")
    touch(tmp_path / "more", "a/a.wav", "b.m4a", "a/c.wma", "d.mka", "e.webm", "esc\x1b.aac", ".hidden.m4a")
    found = find_songs([tmp_path / "one"], tmp_path / "out", STEMS)
    assert passed_over(found) == [f"1 audio file is {passed}: b.M4A; it is read if ffmpeg is installed"]
    line = f"5 audio files are {passed}: c.wma, b.m4a, d.mka, ...; they are read if ffmpeg is installed"
    assert passed_over(find_songs([tmp_path / "more"], tmp_path / "out", STEMS)) == [line]
    touch(tmp_path / "none", "a.m4a")
    with pytest.raises(
        AudioError, match=r"none: holds no audio, expected files .*; 1 audio file is passed over.*: a\.m4a; it is read if"
    ):
        find_songs([tmp_path / "none"], tmp_path / "out", STEMS)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        ("caf", "CAF"),
        ("w64", "W64"),
        ("au", "AU"),
        ("snd", "AU"),
        ("aifc", "AIFF"),
        ("rf64", "RF64"),
        ("wave", "WAV"),
        ("bwf", "WAVEX"),
    ],
)
def test_formats_of_libsndfile_are_found_in_either_case(make_song: Song, tmp_path: Path, suffix: str, form: str) -> None:
    assert f".{suffix}" in SUFFIXES
    song = make_song(tmp_path / f"lower.{suffix}", seconds=0.01, format=form)
    (tmp_path / f"UPPER.{suffix.upper()}").write_bytes(song.read_bytes())
    found = find_songs([tmp_path], tmp_path / "out", STEMS)
    assert len(found.jobs) == 2
    assert {soundfile.info(job.path).frames for job in found.jobs} == {441}


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "closed/b.wav")
    listed = Path.iterdir

    def iterdir(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = find_songs([tmp_path], tmp_path / "out", STEMS)
    assert names(found, tmp_path) == ["a.wav"]
    assert passed_over(found) == [f"{tmp_path / 'closed'}: cannot be read (Permission denied); its songs are passed over"]
    with pytest.raises(AudioError, match=r"closed: cannot be read \(Permission denied\), expected a folder of songs"):
        find_songs([tmp_path / "closed"], tmp_path / "out", STEMS)
