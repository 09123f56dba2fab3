"""Lossy formats that libsndfile writes: mp3, ogg (Vorbis) and opus.

    check("opus", 44100, 2, "song.mp3")            # raises AudioError if it cannot be written
    file_rate("opus", 44100)                       # 48000: Opus knows few sample rates
    encode(path, blocks, 44100, 2, "mp3", 256)     # float samples in, resampled if the format needs it

A decoded file has the song's number of samples, at the file's rate: the formats note the encoder's padding, and readers that
know the notes remove it. Decoded samples may pass +-1 by the codec's own error.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from my_submission.src.audio.files import SUBTYPES, AudioError, Block
from my_submission.src.audio.parts import native_name
from my_submission.src.audio.resample import fix_length, resample

MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# Below 64 kbit/s, a frame has no room for the note of the song's length.
MP3_BITRATES = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
WIDEST = 48000  # Hz, for songs at a rate that a format does not know


@dataclass(frozen=True)
class Lossy:
    """A lossy format."""

    form: str  # libsndfile's names
    subtype: str
    setting: str  # the option that sets its size: bitrate (kbit/s) or quality (0 to 10)
    default: int
    rates: tuple[int, ...] = ()  # Hz; empty: all
    most_channels: int = 8


LOSSY = {
    "mp3": Lossy("MP3", "MPEG_LAYER_III", "bitrate", 256, MPEG_RATES, 2),
    "ogg": Lossy("OGG", "VORBIS", "quality", 8),
    "opus": Lossy("OGG", "OPUS", "bitrate", 192, OPUS_RATES),
}
CONTAINERS = (*SUBTYPES, *LOSSY)  # all formats of stems
BITRATES = {"mp3": MP3_BITRATES, "opus": range(12, 513)}  # kbit/s


def check_available(container: str) -> None:
    """Raise AudioError if this libsndfile cannot write a format."""
    lossy = LOSSY.get(container)
    if lossy and not (
        lossy.form in soundfile.available_formats() and lossy.subtype in soundfile.available_subtypes(lossy.form)
    ):
        version = soundfile.__libsndfile_version__
        raise AudioError(
            f"--format {container}: libsndfile {version} here cannot write it; update it with pip install -U soundfile"
        )


def file_rate(container: str, sample_rate: int) -> int:
    """Return the sample rate of a song's files, Hz: its own if the format knows it."""
    rates = LOSSY[container].rates if container in LOSSY else ()
    return sample_rate if not rates or sample_rate in rates else WIDEST


def file_samples(container: str, sample_rate: int, num_samples: int) -> int:
    """Return the number of samples of a song's files."""
    return max(1, round(num_samples * file_rate(container, sample_rate) / sample_rate))


def check(container: str, sample_rate: int, channels: int, name: str) -> None:
    """Raise AudioError if the stems of the song `name` cannot be written in a format."""
    lossy = LOSSY.get(container)
    if lossy is None:
        return
    if channels > lossy.most_channels:
        raise AudioError(f"{name}: has {channels} channels, and {container} holds {lossy.most_channels}; choose --format flac")
    if file_rate(container, sample_rate) != sample_rate and importlib.util.find_spec("soxr") is None:
        rates = ", ".join(map(str, lossy.rates))
        raise AudioError(
            f"{name}: is at {sample_rate} Hz, and {container} knows {rates} Hz; to have it resampled: pip install soxr"
        )


def encode(
    path: Path,
    blocks: Iterable[Block],
    sample_rate: int,
    channels: int,
    num_samples: int,
    container: str,
    setting: float | None = None,
) -> None:
    """Write a lossy file. Raises what soundfile raises.

    Args:
        path: the file; an existing one is replaced.
        blocks: the audio, [C, n]. Samples beyond +-1 may clip.
        sample_rate: of the blocks, Hz. Another rate than `file_rate` is resampled.
        channels: number of channels.
        num_samples: samples per channel of all blocks.
        container: a key of LOSSY.
        setting: mp3: a constant bit rate out of MP3_BITRATES, kbit/s; at most 160 is used below 32 kHz, and 64 below 16 kHz.
            opus: the mean bit rate in full music, kbit/s; sparse music takes less, and at most 256 per channel are used.
            ogg: Vorbis's quality from 0 to 10; its bit rate depends on the music. Default: the format's.
    """
    lossy, rate = LOSSY[container], file_rate(container, sample_rate)
    setting = lossy.default if setting is None else setting
    how = _settings(container, rate, channels, setting)
    samples = file_samples(container, sample_rate, num_samples)
    with soundfile.SoundFile(native_name(path), "w", rate, channels, lossy.subtype, format=lossy.form, **how) as file:
        for block in fix_length(samples, resample(blocks, sample_rate, rate)):
            file.write(np.ascontiguousarray(block.T))


def _settings(container: str, rate: int, channels: int, setting: float) -> dict[str, Any]:
    """Return soundfile's arguments for a bit rate or a quality; libsndfile maps its compression level linearly to them."""
    if container == "ogg":
        return {"compression_level": 1 - setting / 10}
    if container == "opus":
        return {"compression_level": 1 - (min(max(setting / channels, 6), 256) - 6) / 250}
    least, most = (32, 320) if rate >= 32000 else (8, 160) if rate >= 16000 else (8, 64)  # MPEG-1, -2 and -2.5
    return {"compression_level": (most - min(setting, most)) / (most - least), "bitrate_mode": "CONSTANT"}
