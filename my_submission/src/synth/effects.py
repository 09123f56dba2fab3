"""What happens to a track after it was played: drive, chorus, echo, tremolo, compression, ducking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from my_submission.src.synth.waves import RATE, Sound, cycles, samples, sine, times

BLOCK = 256  # samples between two looks at the level


def loudness(sound: Sound) -> float:
    """RMS of what sounds: of the blocks within 30 dB of the loudest, so that rests do not count. [..., n]."""
    power = _block_power(sound)
    return float(np.sqrt(np.mean(power[power >= 1e-3 * power.max()]))) if power.max() > 0 else 0.0


def levelled(sound: Sound) -> Sound:
    """The sound at loudness 1; silence stays as it is."""
    level = loudness(sound)
    return sound / level if level > 0 else sound.copy()


def drive(sound: Sound, amount: float) -> Sound:
    """Saturation, a tube's or an amplifier's: `amount` 0 is clean, 1 warm, 10 a distorted guitar. Takes a levelled sound."""
    if amount == 0:
        return sound
    return np.tanh(amount * sound) / amount**0.7


def chorus(track: Sound, rate: float, depth: float, mix: float) -> Sound:
    """Mono [n] -> stereo [2, n] with a copy per side whose delay sways by `depth` seconds, so that its pitch does."""
    count = len(track)
    sides = []
    for side in (0.0, 0.25):
        delay = (0.004 + depth * (1 + sine(cycles(rate, count, side)))) * RATE
        place = np.maximum(np.arange(count) - delay, 0)
        index = np.minimum(place.astype(np.int64), count - 2)
        copy = track[index] + (place - index) * (track[index + 1] - track[index])
        sides.append((1 - 0.5 * mix) * track + mix * copy)
    return np.stack(sides)


def echo(track: Sound, seconds: float, feedback: float, spread: float) -> Sound:
    """Repeats of a stereo track [2, n], each weaker by `feedback`, swapping sides by `spread` 0..1."""
    out = track.copy()
    step, gain, repeat = samples(seconds), 1.0, track
    for number in range(1, 7):
        gain *= feedback
        repeat = (1 - spread) * repeat + spread * repeat[::-1]
        if number * step >= track.shape[-1] or gain < 0.01:
            break
        out[:, number * step :] += gain * repeat[:, : -number * step]
    return out


def tremolo(track: Sound, rate: float, depth: float, stereo: bool) -> Sound:
    """Loudness of a stereo track [2, n] that sways, in both channels together or from side to side."""
    count = track.shape[-1]
    sway = depth * sine(cycles(rate, count))
    return track * np.stack([1 + sway, 1 - sway if stereo else 1 + sway])


def compress(sound: Sound, strength: float) -> Sound:
    """Even out loudness: what is x dB away from the average is strength * x dB nearer after it. [..., n]."""
    power = _block_power(sound)
    if power.max() == 0:
        return sound
    level = _smooth(power, 8)
    mean = np.mean(level[level > 1e-3 * level.max()])
    gain = (np.maximum(level, 0.03 * mean) / mean) ** (-strength / 2)
    return sound * hold(gain, BLOCK, sound.shape[-1])


def ducking(count: int, hits: Sequence[float], depth: float, seconds: float) -> Sound:
    """A gain [count] that gives way at each hit (seconds) and comes back within `seconds`: the pumping of dance music."""
    gain = np.ones(count)
    time = times(samples(seconds))
    shape = 1 - depth * np.minimum(time / 0.005, 1) * (1 - np.minimum(time / seconds, 1)) ** 2  # 5 ms: a step would click
    for hit in hits:
        begin = round(hit * RATE)
        if 0 <= begin < count:
            part = gain[begin : begin + len(shape)]
            np.minimum(part, shape[: len(part)], out=part)
    return gain


def hold(curve: Sound, block: int, count: int) -> Sound:
    """One value per block as `count` samples, on straight lines between the middles of blocks."""
    padded = np.concatenate([curve[:1], curve, curve[-1:]])
    lines = padded[:-1, None] + np.diff(padded)[:, None] * (np.arange(block) / block)
    return lines.ravel()[block // 2 :][:count]


def _block_power(sound: Sound) -> Sound:
    """Mean square per BLOCK, the last one filled up with zeros. [..., n] -> [blocks]."""
    power = np.mean(np.atleast_2d(sound) ** 2, axis=0)
    power = np.concatenate([power, np.zeros(-len(power) % BLOCK)])
    return power.reshape(-1, BLOCK).mean(axis=1)


def _smooth(curve: Sound, width: int) -> Sound:
    """A moving average over 2 * width + 1 values."""
    padded = np.concatenate([np.full(width, curve[0]), curve, np.full(width, curve[-1])])
    return np.convolve(padded, np.full(2 * width + 1, 1 / (2 * width + 1)), mode="valid")
