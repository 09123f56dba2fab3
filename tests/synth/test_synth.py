"""Synthetic songs: identical on every machine, complete, and enough like music to be worth separating."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src import audio
from my_submission.src.common import cli
from my_submission.src.synth import command as synth
from my_submission.src.synth import effects, filters, mix, score, waves
from my_submission.src.synth.command import SynthError, make_song
from tests.helpers.dead import leave_dead

RATE = 44100
STEMS = ["bass", "drums", "other", "vocals"]
FILES = sorted(f"{name}.wav" for name in [*STEMS, "mixture"])

# SHA-256 of make_song(seed, 1.5), stems in alphabetical order.
#
# Every machine must give exactly these samples. The last bit of exp, sin and FFTs differs between CPUs, but nothing
# amplifies it: with numpy's SSE4, AVX2, FMA and AVX512 code switched off, the samples of these songs change by 2e-11 of a
# 16-bit step before rounding (those of other songs by 5e-8 at most). No sample of them lies within MARGIN of a rounding
# boundary, which a test below checks. Another numpy could draw other random numbers; requirements.txt pins it.
HASHES = {
    33: "f66db1e19b2b5b3e3fbd92fba1d77655cac2f0955bc799cfc96d67bdb5da8136",
    45: "6667f10a39fa2c2c2d25abd84ee67f967c05c25ad5548788162b861f5158aa02",
    53: "3199d0a722e5d25e9c60487377f384891ebdc96ffa8378a611ce31044bf4cd30",
    79: "4fcf3e6b6d6da4abc11141540591282a2c3c47f2601bf1099c8b1c6601034775",
}
MARGIN = 1e-6  # of a 16-bit step


def digest(song: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(song[name].astype("<i2").tobytes() for name in STEMS)).hexdigest()


def decibels(sound: np.ndarray) -> float:
    """Return the RMS of 16-bit samples in dB relative to full scale."""
    return float(10 * np.log10(np.mean((sound / 32768.0) ** 2) + 1e-12))


def spectrum(stem: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the power spectrum [F] of a stem's mono sum, and the frequencies [F] in Hz."""
    mono = stem.mean(axis=1)
    return np.abs(np.fft.rfft(mono)) ** 2, np.fft.rfftfreq(len(mono), 1 / RATE)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its status, output and errors."""
    status = cli.run(synth.main, [*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def songs() -> list[dict[str, np.ndarray]]:
    """Make six songs of ten seconds."""
    return [make_song(seed, 10.0) for seed in range(6)]


@pytest.mark.parametrize("seed", HASHES)
def test_songs_match_their_hashes(seed: int) -> None:
    assert digest(make_song(seed, 1.5)) == HASHES[seed]


@pytest.mark.parametrize("seed", HASHES)
def test_hashed_songs_keep_away_from_rounding_boundaries(seed: int) -> None:
    for stem in mix.record(seed, 1.5).values():
        steps = 32767 * stem
        assert np.abs(steps - np.floor(steps) - 0.5).min() > MARGIN


def test_files_are_the_same_without_the_processors_vector_units(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # instruction sets of this CPU above numpy's baseline
    result = run_python(
        *("-m", "my_submission", "synth", tmp_path / "out", "--songs", 2, "--seconds", 1.5, "--seed", 41),
        NPY_DISABLE_CPU_FEATURES=" ".join(found),
    )
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'out'}: 2 songs of 1.5 s made\n"), result.stderr
    folders = sorted((tmp_path / "out").iterdir())
    assert [folder.name for folder in folders] == ["song_000041", "song_000042"]
    for seed, folder in zip((41, 42), folders, strict=True):
        assert sorted(path.name for path in folder.iterdir()) == FILES
        song = make_song(seed, 1.5)  # song i depends on the seed K + i only
        written = {path.stem: soundfile.read(path, dtype="int16") for path in folder.iterdir()}
        for name in STEMS:
            np.testing.assert_array_equal(written[name][0], song[name])
        assert {soundfile.info(path).subtype for path in folder.iterdir()} == {"PCM_16"}
        assert {rate for _, rate in written.values()} == {RATE}
        total = sum(song[name].astype(int) for name in STEMS)
        np.testing.assert_array_equal(written["mixture"][0], total)
        mixture = audio.read(folder / "mixture.wav")[0]  # also when read as floats
        np.testing.assert_array_equal(mixture, sum(audio.read(folder / f"{name}.wav")[0] for name in STEMS))


def test_levels_are_like_those_of_records(songs: list[dict[str, np.ndarray]]) -> None:
    for song in songs:
        assert sorted(song) == STEMS
        mixture = sum(stem.astype(int) for stem in song.values())
        assert np.abs(mixture).max() < 0.951 * 32768
        assert -20 < decibels(mixture) < -11
        for stem in song.values():
            assert stem.shape == (10 * RATE, 2)
            assert stem.dtype == np.int16
            assert np.abs(stem).max() < 0.951 * 32768
            assert decibels(stem) > -38
            assert abs(stem.mean()) < 5  # no DC offset


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_all_stems_sound_in_short_songs_too(seconds: float) -> None:
    for seed in range(500, 506):
        for stem in make_song(seed, seconds).values():
            assert decibels(stem) > -40


def test_stems_have_the_spectra_of_their_instruments(songs: list[dict[str, np.ndarray]]) -> None:
    below, flatness = [], {name: [] for name in STEMS}
    for song in songs:
        power, frequencies = spectrum(song["bass"])
        below.append(power[frequencies < 250].sum() / power.sum())
        for name in STEMS:
            power, frequencies = spectrum(song[name])
            high = power[(frequencies > 8000) & (frequencies < 16000)]
            flatness[name].append(high.sum() / power.sum())
    assert np.mean(below) > 0.8
    assert min(below) > 0.4
    means = {name: np.mean(values) for name, values in flatness.items()}
    assert max(means, key=means.get) == "drums"  # cymbals
    assert min(means, key=means.get) == "bass"


def test_stems_are_not_correlated(songs: list[dict[str, np.ndarray]]) -> None:
    for song in songs:
        correlation = np.corrcoef([song[name].mean(axis=1) for name in STEMS])
        assert np.abs(correlation - np.eye(4)).max() < 0.15
    assert any(np.abs(song["other"][:, 0] - song["other"][:, 1].astype(int)).max() > 1000 for song in songs)  # stereo


def test_songs_differ_and_instruments_rest(songs: list[dict[str, np.ndarray]]) -> None:
    plans = [score.compose(np.random.default_rng(seed), 60.0, 3) for seed in range(30)]
    assert len({plan.step for plan in plans}) == len({plan.tonic for plan in plans}) == 30
    assert len({plan.groove.name for plan in plans}) > 8
    for name in (*STEMS[:2], "vocals"):
        shares = [len(list(plan.bars_of(name))) / len(plan.bars) for plan in plans]
        assert min(shares) >= 0.4  # less than a half, because the last bar may be cut off
        assert np.mean(np.array(shares) < 1) > 0.5
    first = [song["drums"][:RATE, 0] for song in songs]
    assert len({sound.tobytes() for sound in first}) == len(songs)


def test_existing_songs_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    assert run(capsys, out, "--songs", 1, "--seconds", 1, "--seed", 9)[:2] == (0, f"{out}: 1 song of 1 s made\n")
    before = (out / "song_000009" / "bass.wav").stat().st_mtime_ns
    status, printed, _ = run(capsys, out, "--songs", 2, "--seconds", 1, "--seed", 8)
    assert (status, printed) == (0, f"{out}: 1 song of 1 s made, 1 there already\n")
    assert (out / "song_000009" / "bass.wav").stat().st_mtime_ns == before

    status, _, errors = run(capsys, out, "--songs", 1, "--seconds", 2, "--seed", 9)
    folder = out / "song_000009"
    assert status == 2
    assert errors.splitlines()[-1] == (
        f"error: {folder / 'mixture.wav'}: lasts 1 s, expected 2 s in an existing song; delete {folder}, or choose another OUT"
    )
    (folder / "drums.wav").unlink()
    status, _, errors = run(capsys, out, "--songs", 1, "--seconds", 1, "--seed", 9)
    assert status == 2
    assert "drums.wav: is missing, expected 1 s in an existing song" in errors


def test_an_interrupted_song_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(path: Path, *rest: object) -> None:
        if path.name == "drums.wav":
            raise KeyboardInterrupt
        return write(path, *rest)

    write = audio.write
    monkeypatch.setattr(audio, "write", stop)
    leave_dead(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        synth.write_song(tmp_path / "song", 0, 1.0)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert synth.write_song(tmp_path / "song", 0, 1.0)
    assert not synth.write_song(tmp_path / "song", 0, 1.0)
    assert sorted(path.name for path in (tmp_path / "song").iterdir()) == FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--songs", "0"], "argument --songs: '0' is not a whole number of 1 or more"),
        (["--songs", "many"], "argument --songs: 'many' is not a whole number of 1 or more"),
        (["--seconds", "0.5"], "argument --seconds: '0.5' is not a number from 1 to 600"),
        (["--seconds", "nan"], "argument --seconds: 'nan' is not a number from 1 to 600"),
        (["--seconds", "long"], "argument --seconds: 'long' is not a number from 1 to 600"),
        (["--seed=-1"], "argument --seed: '-1' is not a whole number of 0 or more"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(synth.main, [str(tmp_path / "out"), *arguments])
    assert stopped.value.code == 2
    assert f"error: {message}\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    status, _, errors = run(capsys, file)
    assert (status, errors) == (2, f"error: {file}: is a file, expected a folder or an unused name\n")
    status, _, errors = run(capsys, file / "below", "--songs", 1, "--seconds", 1)
    assert status == 2
    assert f"error: {file / 'below' / 'song_000000'}: cannot be written (Not a directory)" in errors
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("seed", "seconds"), [(-1, 2.0), (0, 0.99), (0, 601.0), (0, float("nan")), (0, float("inf"))])
def test_impossible_songs_are_refused(seed: int, seconds: float) -> None:
    with pytest.raises(SynthError, match=r"^(seed is -1, expected 0 or more|seconds is \S+, expected 1 to 600)$"):
        make_song(seed, seconds)


def test_phases_do_not_drift() -> None:
    phase = waves.cycles(440.0, RATE * 60)
    assert np.all((phase >= 0) & (phase < 1))
    expected = (440.0 / RATE * np.arange(RATE * 60)) % 1
    distance = np.abs(phase - expected)
    assert np.minimum(distance, 1 - distance).max() < 1e-6
    curve = waves.cycles(np.full(RATE, 440.0), RATE)
    np.testing.assert_array_equal(curve, phase[:RATE])


def test_a_moving_filter_with_unit_gain_returns_the_sound() -> None:
    sound = np.random.default_rng(0).standard_normal(300 * 64 + 17)
    shapes = np.zeros((len(sound) // 64 + 2, 1))  # more frames than one batch
    passed = filters.moving_filter(sound, shapes, lambda part: np.ones((len(part), 129), complex), 64)
    np.testing.assert_allclose(passed, sound, atol=1e-12)


def test_the_limiter_keeps_stems_and_their_sum_below_the_ceiling_and_in_proportion() -> None:
    rng = np.random.default_rng(1)
    before = {name: 3 * rng.standard_normal((2, 5000)) * (rng.random(5000) < 0.1) for name in ("vocals", "drums")}
    after = {name: stem.copy() for name, stem in before.items()}
    mix.limit(after)
    for sound in (*after.values(), sum(after.values())):
        assert np.abs(sound).max() <= mix.CEILING + 1e-12
    assert max(np.abs(sound).max() for sound in after.values()) > 0.5  # limits no more than necessary
    np.testing.assert_allclose(after["drums"] * before["vocals"], before["drums"] * after["vocals"], atol=1e-12)
    gains = [after[name][before[name] != 0] / before[name][before[name] != 0] for name in before]
    assert all(np.all((gain > 0) & (gain <= 1)) for gain in gains)


def test_loudness_ignores_rests() -> None:
    sound = np.sin(np.arange(20 * effects.BLOCK))
    with_rest = np.concatenate([sound, np.zeros(200 * effects.BLOCK)])
    assert effects.loudness(with_rest) == pytest.approx(effects.loudness(sound))
    assert effects.loudness(np.zeros(1000)) == 0


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 44100, 882001])
def test_fast_lengths_are_long_enough(count: int) -> None:
    assert count <= filters.fast_length(count) <= 2 * count
