"""The mix: rooms, levels, one limiter for all stems, 16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from my_submission.src.synth.bass import play_bass
from my_submission.src.synth.drums import play_drums
from my_submission.src.synth.effects import chorus, ducking, interpolate_blocks, levelled, loudness
from my_submission.src.synth.filters import Response, Room, audible, draw_equaliser
from my_submission.src.synth.other import draw_roles, play_other
from my_submission.src.synth.score import INSTRUMENTS, Score, compose
from my_submission.src.synth.voice import play_vocals
from my_submission.src.synth.waves import Sound, decibels, pan, samples

LEVELS = {"vocals": 0.0, "drums": -0.5, "bass": -2.0, "other": -2.5}  # dB, mean of the random levels
CEILING = 0.95  # of full scale; the limit for each stem and for the mixture
BLOCK = 64  # samples per gain of the limiter
LOOKAHEAD = 8  # blocks


def record(seed: int, seconds: float) -> dict[str, Sound]:
    """Compose, play and mix a song: instrument -> stereo [2, n]. Each stem and their sum lie within ±CEILING."""
    rngs = {name: np.random.default_rng([seed, *name.encode()]) for name in ("score", "mix", *INSTRUMENTS)}
    roles = draw_roles(rngs["score"])
    score = compose(rngs["score"], seconds, len(roles))
    tracks = {
        "vocals": play_vocals(rngs["vocals"], score),
        "drums": play_drums(rngs["drums"], score),
        "bass": play_bass(rngs["bass"], score),
        "other": play_other(rngs["other"], score, roles),
    }
    return _mix(rngs["mix"], score, tracks)


def to_16_bits(stems: dict[str, Sound]) -> dict[str, NDArray[np.int16]]:
    """Convert stems [2, n] within ±1 to 16 bits [n, 2]."""
    return {name: np.rint(32767 * stem.T).astype(np.int16) for name, stem in stems.items()}


def _mix(rng: np.random.Generator, score: Score, tracks: dict[str, Sound]) -> dict[str, Sound]:
    """Place the tracks in rooms, set their levels and limit them. Empties `tracks` to save memory."""
    space = rng.uniform(0, 1)
    if rng.random() < 0.25:
        tracks["bass"] = chorus(tracks["bass"], rng.uniform(0.2, 1), 0.001, rng.uniform(0.1, 0.5))
    else:
        tracks["bass"] = pan(rng.uniform(-0.1, 0.1))[:, None] * tracks["bass"]
    wet = {
        "vocals": rng.uniform(0, 0.35),
        "drums": rng.uniform(0, 0.3),
        "bass": rng.uniform(0, 0.06),
        "other": rng.uniform(0, 0.5),
    }
    stems: dict[str, Sound] = {}
    for name in INSTRUMENTS:
        equaliser = draw_equaliser(rng, 3.0)
        room = Room(rng, space * rng.uniform(0.6, 1) * (0.6 if name == "drums" else 1))
        stems[name] = levelled(room.play(tracks.pop(name), wet[name], _audible_part(equaliser)))
        stems[name] *= decibels(LEVELS[name] + rng.normal(0, 2.2))
    if rng.random() < 0.3:
        pump = _pump(rng, score)
        stems["bass"] *= pump
        stems["other"] *= pump
    gain = decibels(rng.uniform(-18.5, -12.5)) / loudness(_sum(stems))
    for name in stems:
        stems[name] *= gain  # in place, here and in `limit`, because a long song takes gigabytes
    limit(stems)
    return stems


def _audible_part(equaliser: Response) -> Response:
    """Return the response of an equaliser followed by `audible`."""
    return lambda frequencies: equaliser(frequencies) * audible(frequencies)


def _sum(stems: dict[str, Sound]) -> Sound:
    """Return the sum of the stems."""
    first, *others = stems.values()
    total = first.copy()
    for stem in others:
        total += stem
    return total


def _pump(rng: np.random.Generator, score: Score) -> Sound:
    """Return the gain [n] of stems that are ducked by the kick."""
    steps = np.flatnonzero(score.groove.kick)
    hits = [score.time(bar, int(step)) for bar in score.bars_of("drums") for step in steps]
    return ducking(samples(score.seconds), hits, rng.uniform(0.2, 0.8), rng.uniform(1, 4) * score.step)


def limit(stems: dict[str, Sound]) -> None:
    """Limit the stems in place with one gain for all, so that neither a stem nor their sum exceeds CEILING."""
    count = stems["vocals"].shape[-1]
    peaks = np.zeros(count)
    for sound in (_sum(stems), *stems.values()):
        np.maximum(peaks, np.abs(sound).max(axis=0), out=peaks)
    peaks = np.concatenate([peaks, np.zeros(-count % BLOCK)]).reshape(-1, BLOCK).max(axis=1)
    gain = np.minimum(1.0, CEILING / np.maximum(peaks, 1e-9))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(gain, 2 * LOOKAHEAD + 1, constant_values=1.0), 2 * LOOKAHEAD + 3)
    lowest = around.min(axis=1)  # within LOOKAHEAD + 1 blocks, so that the average below never exceeds the gain of a block
    smooth = np.lib.stride_tricks.sliding_window_view(lowest, 2 * LOOKAHEAD + 1).mean(axis=1)
    curve = interpolate_blocks(smooth, BLOCK, count)
    for name in stems:
        stems[name] *= curve
