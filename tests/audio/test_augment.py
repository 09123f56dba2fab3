"""Augmentation: off by default, the sources still sum to the mixture, and samples depend on seed and index alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.audio import augment
from my_submission.src.config import Config, load_config
from my_submission.src.dataset import RandomMixes, batches, open_tracks
from my_submission.src.training.resume import recipe
from tests.helpers.training import write_config, write_tracks

RATE = 44100
ON = {
    "mixture_codec": 0.5,
    "speed": (0.9, 1.1),
    "equaliser_db": 6.0,
    "reverb": 0.5,
    "channel_swap": 0.5,
    "polarity": 0.5,
    "gain_db": (-6.0, 6.0),
    "same_song": 0.5,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path / "config.yaml"))


def mixes_of(config: Config, tracks: list, seed: int = 0, **changes: object) -> RandomMixes:
    return RandomMixes(tracks, replace(config, training=replace(config.training, **changes)), seed=seed)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_the_inverse_mdct_gives_the_audio_back(num_samples: int, seed: int) -> None:
    audio = noise(seed, 2, num_samples)
    np.testing.assert_allclose(augment.inverse_mdct(augment.mdct(audio), num_samples), audio, atol=1e-5)


def test_the_mdct_is_that_of_its_definition() -> None:
    audio, half = noise(0, 5000), augment.HALF
    time, number = np.arange(2 * half), np.arange(half)[:, None]
    basis = np.sin(np.pi * (time + 0.5) / (2 * half)) * np.cos(np.pi / half * (time + 0.5 + half / 2) * (number + 0.5))
    padded = np.pad(audio.astype(float), (half, 2 * half))
    for frame, found in enumerate(augment.mdct(audio)[:3]):
        np.testing.assert_allclose(found, basis @ padded[frame * half :][: 2 * half], atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2**16), st.integers(1, 4), st.integers(1, 2), st.integers(1000, 20000))
def test_coded_sources_sum_to_the_coded_mixture(seed: int, sources: int, channels: int, num_samples: int) -> None:
    audio = noise(seed, sources, channels, num_samples) * np.linspace(0.01, 2, sources, dtype=np.float32)[:, None, None]
    coded = augment.coded(audio, RATE, np.random.default_rng(seed))
    alone = augment.coded(audio.sum(axis=0, keepdims=True), RATE, np.random.default_rng(seed))
    assert coded.shape == audio.shape
    assert coded.dtype == np.float32
    error = np.abs(coded.sum(axis=0) - alone[0])
    assert np.sqrt(np.mean(error**2)) < 2e-3 * np.sqrt(np.mean(alone**2))  # a rounding may fall to the other side


@pytest.mark.parametrize("seed", range(8))
def test_the_codec_loses_the_treble_and_little_else(seed: int) -> None:
    audio = noise(seed, 1, 2, RATE)
    coded = augment.coded(audio, RATE, np.random.default_rng(seed))
    power, before = (np.abs(np.fft.rfft(sound[0, 0])) ** 2 for sound in (coded, audio))
    assert power[18500:].sum() < 1e-3 * before[18500:].sum()  # the ends of the chunk are cut off
    low = slice(0, 5000)
    loss = np.abs(np.fft.rfft((coded - audio)[0, 0])[low]) ** 2
    assert -35 < 10 * np.log10(loss.sum() / before[low].sum()) < -5


def test_the_codec_keeps_silence() -> None:
    audio = noise(0, 3, 2, 9000)
    audio[1] = 0
    assert not augment.coded(audio, RATE, np.random.default_rng(0))[1].any()
    assert not augment.coded(0 * audio, RATE, np.random.default_rng(0)).any()


@pytest.mark.parametrize("speed", [0.8, 0.95, 1.0, 1.07, 1.25])
def test_speed_multiplies_every_frequency(speed: float) -> None:
    keys, wanted = augment.Augmentation(speed=(speed, speed)), 20_000
    length = augment.draw_length(wanted, keys, np.random.default_rng(0))
    tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(length)).astype(np.float32)[None]
    changed = augment.at_speed(tone, wanted)[0]
    assert changed.shape == (wanted,)
    time = augment.MARGIN + np.arange(wanted)
    exact = length / (wanted + 2 * augment.MARGIN)
    assert exact == pytest.approx(speed, abs=64 / wanted)
    expected = np.sin(2 * np.pi * 1000 * exact / RATE * time)
    np.testing.assert_allclose(changed, expected, atol=0.01)


def test_without_the_keys_a_sample_is_as_before(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)
    plain = mixes_of(config, tracks)
    for name, value in (("channel_swap", 1.0), ("polarity", 1.0)):
        changed = mixes_of(config, tracks, **{name: value})
        for index in range(5):
            sources, names = plain[index]
            again = changed[index]
            assert torch.equal(again.tracks, names)  # what is drawn does not depend on the changes
            assert torch.equal(again.sources, -sources if name == "polarity" else sources.flip(1))


@pytest.mark.parametrize("name", ["mixture_codec", "reverb", "channel_swap", "polarity"])
def test_a_probability_is_the_share_of_changed_sources(tmp_path: Path, config: Config, name: str) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)
    plain, half = mixes_of(config, tracks), mixes_of(config, tracks, **{name: 0.5})
    same = [[torch.equal(a, b) for a, b in zip(plain[i].sources, half[i].sources, strict=True)] for i in range(40)]
    share = np.mean(same)
    assert 0.3 < share < 0.7
    if name == "mixture_codec":
        assert all(len(set(sources)) == 1 for sources in same)  # the whole sample, or nothing of it


def test_every_change_gives_finite_chunks_of_the_right_size(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)
    plain = mixes_of(config, tracks)[0].sources
    for name in ("speed", "equaliser_db", "reverb"):
        sources = mixes_of(config, tracks, **{name: {"reverb": 1.0}.get(name, ON[name])})[0].sources
        assert sources.shape == plain.shape
        assert sources.dtype == torch.float32
        assert torch.isfinite(sources).all()
        assert not torch.equal(sources, plain)


def test_changed_samples_depend_on_seed_and_index_alone(tmp_path: Path, config: Config) -> None:
    tracks = open_tracks([write_tracks(tmp_path / "data", 3)], config)
    mixes = mixes_of(config, tracks, seed=3, **ON)
    expected = [torch.stack([mixes[4 * step + item].sources for item in range(4)]) for step in range(3)]
    for workers in (0, 1, 2):
        for step, batch in enumerate(batches(mixes, range(3), 4, workers=workers)):
            assert torch.equal(batch.sources, expected[step])
    assert not torch.equal(mixes[0].sources, mixes_of(config, tracks, seed=4, **ON)[0].sources)


def test_runs_older_than_the_keys_can_be_resumed(config: Config) -> None:
    assert not {f"training.{name}" for name in ("mixture_codec", "speed", "reverb")} & set(recipe(config, "fp32"))
    changed = replace(config, training=replace(config.training, reverb=0.2))
    assert recipe(changed, "fp32")["training.reverb"] == 0.2
