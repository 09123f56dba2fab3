"""mp3, ogg and opus: lengths, levels, bit rates, and the door."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import lossy
from my_submission.src.audio.files import AudioError, read
from my_submission.src.audio.stem_writer import StemWriter


def music(samples: int, rate: int = 44100, channels: int = 2) -> np.ndarray:
    """Return tones over noise [n, C]."""
    time = np.arange(samples)[:, None] / rate
    noise = np.random.default_rng(0).standard_normal((samples, channels))
    return (0.3 * np.sin(2 * np.pi * 440 * time) * np.cos(2 * np.pi * 2 * time) + 0.03 * noise).astype(np.float32)


def write(folder: Path, stems: np.ndarray, container: str, rate: int, setting: float | None = None) -> float:
    """Write stems [S, n, C] as they come from a separator, and return the gain."""
    names = [str(number) for number in range(len(stems))]
    samples, channels = stems.shape[1:]
    with StemWriter(folder, names, rate, channels, samples, container, setting=setting) as writer:
        for start in range(0, samples, 10000):
            writer.write(stems[:, start : start + 10000].swapaxes(1, 2))
    return writer.gain


@pytest.mark.parametrize("container", lossy.LOSSY)
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [1, 1000, 30001])
def test_a_decoded_stem_has_the_songs_samples_in_their_place(tmp_path: Path, container: str, rate: int, samples: int) -> None:
    there = lossy.file_rate(container, rate)
    if there != rate:
        pytest.importorskip("soxr")
    song = music(samples, rate)
    assert write(tmp_path / "song", song[None], container, rate) == 1
    decoded, found = read(tmp_path / "song" / f"0.{container}")
    assert found == there
    assert len(decoded) == max(1, round(samples * there / rate)) == lossy.file_samples(container, rate, samples)
    if there == rate and samples > 20000:
        late = max(range(-100, 101), key=lambda late: float(decoded[2000 + late : 20000 + late, 0] @ song[2000:20000, 0]))
        assert abs(late) <= 3


@pytest.mark.parametrize("container", lossy.LOSSY)
def test_stems_beyond_full_scale_get_one_gain(tmp_path: Path, container: str) -> None:
    pytest.importorskip("soxr")
    song = music(44100)
    stems = np.stack([8 * song, song])
    gain = write(tmp_path / "loud", stems, container, 44100)
    assert gain == pytest.approx(1 / np.abs(stems).max())
    levels = [np.sqrt(np.square(read(tmp_path / "loud" / f"{name}.{container}")[0]).mean()) for name in "01"]
    assert levels[0] / levels[1] == pytest.approx(8, rel=0.05)
    assert levels[0] == pytest.approx(gain * np.sqrt(np.square(stems[0]).mean()), rel=0.05)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [f"0.{container}", f"1.{container}", "loud"]


@pytest.mark.parametrize(
    ("container", "kbps", "tolerance"), [("mp3", 64, 0.02), ("mp3", 320, 0.02), ("opus", 64, 0.1), ("opus", 256, 0.1)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_bit_rate_is_the_one_asked_for(tmp_path: Path, container: str, kbps: int, tolerance: float, channels: int) -> None:
    song = music(10 * 48000, 48000, channels)
    write(tmp_path / "song", song[None], container, 48000, kbps)
    size = (tmp_path / "song" / f"0.{container}").stat().st_size
    assert size * 8 / 1000 / 10 == pytest.approx(kbps, rel=tolerance)


def test_a_higher_quality_makes_a_larger_and_truer_ogg(tmp_path: Path) -> None:
    song = music(44100)
    sizes, errors = [], []
    for quality in (0, 5, 10):
        write(tmp_path / str(quality), song[None], "ogg", 44100, quality)
        path = tmp_path / str(quality) / "0.ogg"
        sizes.append(path.stat().st_size)
        errors.append(float(np.abs(read(path)[0] - song).mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_an_old_libsndfile_is_refused_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "OGG": ""})
    with pytest.raises(AudioError, match=r"--format mp3: libsndfile .* here cannot write it; update it with pip"):
        lossy.check_available("mp3")
    lossy.check_available("wav")
    monkeypatch.setattr(soundfile, "available_subtypes", lambda _: {"VORBIS": ""})
    lossy.check_available("ogg")
    with pytest.raises(AudioError, match="--format opus"):
        lossy.check_available("opus")


def test_a_song_that_does_not_fit_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="song: has 3 channels, and mp3 holds 2"):
        lossy.check("mp3", 44100, 3, "song")
    monkeypatch.setattr(lossy.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        AudioError, match=r"song: is at 44100 Hz, and opus knows 8000, .*; to have it resampled: pip install soxr"
    ):
        lossy.check("opus", 44100, 2, "song")
    lossy.check("opus", 48000, 2, "song")
    lossy.check("mp3", 44100, 2, "song")
    assert math.isclose(lossy.file_rate("mp3", 96000), 48000)
