"""Effects on a track: drive, chorus, echo, tremolo, compression, ducking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from my_submission.src.synth.waves import RATE, Sound, cycles, samples, sine, times

BLOCK = 256  # samples per measurement of the level


def loudness(sound: Sound) -> float:
    """Return the RMS of a sound [..., n] over the blocks within 30 dB of the loudest one, so that rests do not count."""
    power = _block_power(sound)
    return float(np.sqrt(np.mean(power[power >= 1e-3 * power.max()]))) if power.max() > 0 else 0.0


def levelled(sound: Sound) -> Sound:
    """Scale a sound to loudness 1; return silence unchanged."""
    level = loudness(sound)
    return sound / level if level > 0 else sound.copy()


def drive(sound: Sound, amount: float) -> Sound:
    """Saturate a levelled sound like a tube amplifier: `amount` 0 is clean, 1 warm, 10 a distorted guitar."""
    if amount == 0:
        return sound
    saturated: Sound = np.tanh(amount * sound) / amount**0.7
    return saturated


def chorus(track: Sound, rate: float, depth: float, mix: float) -> Sound:
    """Turn mono [n] into stereo [2, n]: each side gets a copy whose delay, and so its pitch, oscillates.

    Args:
        track: [n].
        rate: Hz of the oscillation.
        depth: amplitude of the oscillation of the delay, seconds.
        mix: level of the copies; 1 halves the original.
    """
    count = len(track)
    sides = []
    for side in (0.0, 0.25):
        delay = (0.004 + depth * (1 + sine(cycles(rate, count, side)))) * RATE
        position = np.maximum(np.arange(count) - delay, 0)
        index = np.minimum(position.astype(np.int64), count - 2)
        copy = track[index] + (position - index) * (track[index + 1] - track[index])
        sides.append((1 - 0.5 * mix) * track + mix * copy)
    return np.stack(sides)


def echo(track: Sound, seconds: float, feedback: float, spread: float) -> Sound:
    """Add up to six repeats to a stereo track [2, n].

    Args:
        track: [2, n].
        seconds: delay from repeat to repeat.
        feedback: gain from repeat to repeat, below 1.
        spread: 0 keeps the sides, 1 swaps them at each repeat.
    """
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
    """Modulate the level of a stereo track [2, n] at `rate` Hz by `depth` 0..1; `stereo` puts the sides in opposite phase."""
    count = track.shape[-1]
    sway = depth * sine(cycles(rate, count))
    return track * np.stack([1 + sway, 1 - sway if stereo else 1 + sway])


def compress(sound: Sound, strength: float) -> Sound:
    """Compress a sound [..., n]: a level x dB from the mean ends (1 - strength) * x dB from it."""
    power = _block_power(sound)
    if power.max() == 0:
        return sound
    level = _smooth(power, 8)
    mean = np.mean(level[level > 1e-3 * level.max()])
    gain = (np.maximum(level, 0.03 * mean) / mean) ** (-strength / 2)
    return sound * interpolate_blocks(gain, BLOCK, sound.shape[-1])


def ducking(count: int, hits: Sequence[float], depth: float, seconds: float) -> Sound:
    """Return a gain [count] that drops at each hit and recovers, as in the pumping of dance music.

    Args:
        count: number of samples.
        hits: times in seconds.
        depth: size of the drop, 0..1.
        seconds: time of the recovery.
    """
    gain = np.ones(count)
    time = times(samples(seconds))
    shape = 1 - depth * np.minimum(time / 0.005, 1) * (1 - np.minimum(time / seconds, 1)) ** 2  # 5 ms: a step would click
    for hit in hits:
        begin = round(hit * RATE)
        if 0 <= begin < count:
            part = gain[begin : begin + len(shape)]
            np.minimum(part, shape[: len(part)], out=part)
    return gain


def interpolate_blocks(curve: Sound, block: int, count: int) -> Sound:
    """Turn one value per block into `count` samples; interpolate linearly between the middles of the blocks."""
    padded = np.concatenate([curve[:1], curve, curve[-1:]])
    lines: Sound = padded[:-1, None] + np.diff(padded)[:, None] * (np.arange(block) / block)
    return lines.ravel()[block // 2 :][:count]


def _block_power(sound: Sound) -> Sound:
    """Return the mean square of each BLOCK, [..., n] -> [blocks]; the last block is padded with zeros."""
    power = np.mean(np.atleast_2d(sound) ** 2, axis=0)
    power = np.concatenate([power, np.zeros(-len(power) % BLOCK)])
    return power.reshape(-1, BLOCK).mean(axis=1)


def _smooth(curve: Sound, width: int) -> Sound:
    """Return the moving average over 2 * width + 1 values."""
    padded = np.concatenate([np.full(width, curve[0]), curve, np.full(width, curve[-1])])
    return np.convolve(padded, np.full(2 * width + 1, 1 / (2 * width + 1)), mode="valid")
