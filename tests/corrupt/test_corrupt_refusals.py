"""corrupt refuses bad settings, tracks and folders, and leaves nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import files as audio
from my_submission.src.common import cli
from my_submission.src.corrupt import CorruptError
from my_submission.src.corrupt import command as corrupt
from my_submission.src.corrupt.faults import Settings
from tests.helpers.corrupt import NAMES, make_data, make_track, run, spy_on_tracks
from tests.helpers.paths import digests


def refused(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """Run a command that is refused in one or two lines; return its message."""
    status, printed, errors = run(capsys, *command)
    assert (status, printed) == (2, "")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in errors
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", 1.01], "rate is 1.01, expected 0 to 1"),
        (["--rate", -0.1], "rate is -0.1, expected 0 to 1"),
        (["--rate", "nan"], "rate is nan, expected 0 to 1"),
        (["--rate", 0.5, "--seed", -1], "seed is -1, expected 0 or more"),
        (["--rate", 0.5, "--level", -3, -6], "level is -3 to -6 dB, expected the lower one first and none above 0"),
        (["--rate", 0.5, "--level", -3, 1], "level is -3 to 1 dB, expected the lower one first and none above 0"),
        (["--rate", 0.5, "--level", "nan", 0], "level is nan to 0 dB, expected the lower one first and none above 0"),
    ],
)
def test_settings_outside_their_range_are_refused(
    arguments: list[object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "bleeding", tmp_path / "in", tmp_path / "out", *arguments) == message
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CorruptError, match="kind is 'noise', expected labelnoise or bleeding"):
        Settings("noise", 0.5, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labelnoise", "--rate", "1", "--level", "-9", "-3"], "--level is of bleeding; labelnoise has none"),
        (["bleeding"], "the following arguments are required: --rate"),
        (["echo", "--rate", "1"], "argument kind: invalid choice: 'echo'"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(corrupt.main, [arguments[0], str(tmp_path / "in"), str(tmp_path / "out"), *arguments[1:]])
    assert stopped.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def spoil(problem: str, data: Path) -> str:
    """Put a problem into a dataset; return the message that is expected after the dataset's path."""
    track = data / "track 1"
    if problem == "missing":
        shutil.rmtree(data)
        message = ": cannot be read (No such file or directory), expected a folder of tracks"
    elif problem == "no tracks":
        for folder in data.glob("track*"):
            shutil.rmtree(folder)
        message = ": no tracks there, expected folders that each hold two or more wav or flac stems"
    elif problem == "one stem":
        for name in NAMES[1:]:
            (track / f"{name}.wav").rename(track / f"{name}.mp3")
        message = "/track 1: too few stems (bass.wav), expected two or more wav or flac files besides the mixture"
    elif problem == "twice":
        soundfile.write(track / "bass.flac", np.zeros(3000), 8000)
        message = "/track 1: an instrument is there twice (bass.flac, bass.wav), expected one file for each"
    elif problem == "twice in other letters":
        shutil.copyfile(track / "bass.wav", track / "BASS.WAV")
        message = "/track 1: an instrument is there twice (BASS.WAV, bass.wav), expected one file for each"
    elif problem == "plus":
        (track / "bass.wav").rename(track / "bass+drums.wav")
        message = "/track 1/bass+drums.wav: has a + in its name, which joins names in the table; rename it"
    elif problem == "silent":
        for name in NAMES[1:]:
            soundfile.write(track / f"{name}.wav", np.zeros((3000, 2)), 8000)
        message = "/track 1: 3 of 4 stems are silent throughout, expected two or more that are not; leave the track out"
    else:
        assert problem == "text"
        (track / "keys.wav").write_text("la la la")
        message = "/track 1/keys.wav: is not audio that libsndfile can read"
    return message


@pytest.mark.parametrize(
    "problem", ["missing", "no tracks", "one stem", "twice", "twice in other letters", "plus", "silent", "text"]
)
def test_tracks_that_cannot_be_used_are_refused(problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "in", tracks=3)
    message = spoil(problem, data)
    before = digests(tmp_path)
    assert refused(capsys, "labelnoise", data, tmp_path / "deep" / "out", "--rate", 0.5).startswith(f"{data}{message}")
    assert digests(tmp_path) == before
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("frames", "rate", "channels", "others", "found"),
    [(2999, 8000, 2, "3000", "2999 {} samples"), (3000, 8001, 2, "8000", "8001 {} Hz"), (3000, 8000, 1, "2", "1 {} channels")],
)
def test_stems_that_do_not_fit_together_are_refused(
    frames: int, rate: int, channels: int, others: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "in", tracks=1)
    soundfile.write(data / "track 0" / "keys.wav", np.ones((frames, channels)), rate)
    value, _, unit = found.partition(" {} ")
    listed = f"bass.wav {others}, drums.wav {others}, keys.wav {value}, vocals.wav {others} {unit}"
    message = f"{data / 'track 0'}: its stems do not fit together ({listed}), expected the same in each"
    assert refused(capsys, "bleeding", data, tmp_path / "out", "--rate", 0.5) == message
    assert not (tmp_path / "out").exists()


def test_an_output_folder_among_the_clean_tracks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "deep" / "in", tracks=2)
    elsewhere = make_track(tmp_path / "elsewhere" / "track 2")
    (data / "track 2").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(data)
    before = digests(tmp_path)
    for out, found in (
        (data, data),
        (tmp_path / "deep", data),
        (data / "out", data),
        (tmp_path / "link", data),
        (tmp_path / "link" / "track 0" / "out", data),
        (elsewhere / "out", elsewhere),
        (elsewhere.parent, elsewhere),
    ):
        message = f"{out}: is, holds or lies in {found}, expected a place apart from the clean tracks"
        assert refused(capsys, "bleeding", data, out, "--rate", 0.5) == message
    assert digests(tmp_path) == before


def test_an_output_folder_with_other_content_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", tracks=2), tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").touch()
    command = ("labelnoise", data, out, "--rate", 0.5)
    message = f"{out}: holds diary.txt already, expected an empty folder or a name that is free"
    assert refused(capsys, *command) == message
    (out / "corrupt.jsonl").write_text("[]\n")
    assert refused(capsys, *command) == message.replace("diary.txt", "corrupt.jsonl")
    file = out / "diary.txt"
    assert refused(capsys, *command[:2], file, *command[3:]) == f"{file}: is a file, expected a folder or a name that is free"
    below = file / "out"
    assert refused(capsys, *command[:2], below, *command[3:]) == f"{below}: cannot be written (Not a directory)"
    assert sorted(digests(out)) == ["corrupt.jsonl", "diary.txt"]

    shutil.rmtree(out)
    assert run(capsys, *command)[0] == 0
    before = digests(out)
    other = refused(capsys, "bleeding", data, out, "--rate", 0.25, "--seed", 0)
    assert other == (
        f"{out}: was made with other settings (kind was labelnoise, is bleeding; rate was 0.5, is 0.25); "
        "delete it, or name another OUT"
    )
    assert "(seed was 0, is 1);" in refused(capsys, *command, "--seed", 1)
    (data / "track 1").rename(data / "track one")
    assert "(the tracks of IN were others);" in refused(capsys, *command)
    (data / "track one").rename(data / "track 1")
    assert digests(out) == before
    (out / "track 0" / "keys.wav").unlink()
    advice = "delete the folder, and the same command makes it"
    assert refused(capsys, *command) == f"{out / 'track 0'}: is there already, but lacks keys.wav; {advice}"
    shutil.rmtree(out / "track 0")
    journal = (out / "corrupt.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line).get("track") for line in journal[1:]] == ["track 0", "track 1"]
    (out / "corrupt.jsonl").write_text("".join(journal[:2]))
    assert refused(capsys, *command) == f"{out / 'track 1'}: is there already, but is not in corrupt.jsonl; {advice}"
    shutil.rmtree(out / "track 1")
    assert run(capsys, *command)[0] == 0
    assert {**digests(out), "corrupt.jsonl": ""} == {**before, "corrupt.jsonl": ""}


@pytest.mark.parametrize("function", ["copyfile", "create"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_full_disk_leaves_whole_tracks_or_nothing(
    function: str, at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = make_data(tmp_path / "in"), tmp_path / "deep" / "out"

    def fail(*arguments: object) -> object:
        if begun[-1:] == [f"track {at}"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    owner = shutil if function == "copyfile" else audio
    original = getattr(owner, function)
    monkeypatch.setattr(owner, function, fail)
    begun = spy_on_tracks(monkeypatch)
    message = refused(capsys, "bleeding", data, out, "--rate", 0.5, "--seed", 8)
    assert str(out) in message
    assert "cannot be written (" in message
    assert "No space left on device" in message
    if at == 0:
        assert not (tmp_path / "deep").exists()
    else:
        assert sorted(path.name for path in out.iterdir()) == ["corrupt.jsonl", "track 0", "track 1"]


def test_samples_that_are_not_finite_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_track(tmp_path / "in" / "track")
    soundfile.write(tmp_path / "in" / "track" / "bass.wav", np.full((3000, 2), np.nan), 8000, "FLOAT")
    message = refused(capsys, "bleeding", tmp_path / "in", tmp_path / "out", "--rate", 1)
    assert "bass.wav: holds NaN or infinite samples (near 0.00 s), expected finite audio" in message
    assert not (tmp_path / "out").exists()
