"""The drums: a random kit per song, from soft brushes to a drum machine. Each drum has a few sounds and a place in stereo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from my_submission.src.synth.effects import compress, drive, levelled
from my_submission.src.synth.filters import Response, band, coloured_noise, filtered, high_pass, low_pass
from my_submission.src.synth.grooves import draw_fill
from my_submission.src.synth.score import Bar, Score
from my_submission.src.synth.waves import (
    RATE,
    Sound,
    add_at,
    cycles,
    decibels,
    fall,
    log_uniform,
    noise,
    pan,
    samples,
    sine,
    times,
)

VARIANTS = 3  # sounds of each drum, so that repeated hits are not copies of each other
Hit = Callable[[], Sound]


def skin(start: float, end: float, bend: float, ring: float) -> Sound:
    """Return one hit on a drum head.

    Args:
        start: pitch at the blow, Hz.
        end: final pitch, Hz.
        bend: time constant of the fall from `start` to `end`, seconds.
        ring: time constant of the decay, seconds.
    """
    count = samples(5 * ring)
    return sine(cycles(end + (start - end) * fall(count, bend), count)) * fall(count, ring)


def kick(rng: np.random.Generator) -> Hit:
    """Draw a bass drum: a low head, the beater's click, and a saturation that makes it audible on small speakers."""
    end, bend = log_uniform(rng, 38, 75), log_uniform(rng, 0.006, 0.045)
    start = end * log_uniform(rng, 1.8, 7)
    ring = log_uniform(rng, 0.05, 0.3)
    click, edge, warmth = rng.uniform(0, 0.6), log_uniform(rng, 900, 6000), rng.uniform(0, 3)

    def hit() -> Sound:
        body = drive(skin(start * rng.uniform(0.96, 1.04), end, bend, ring), warmth)
        count = samples(0.03)
        beater = coloured_noise(rng, count, lambda frequencies: low_pass(frequencies, edge)) * fall(count, 0.004)
        body[: len(beater)] += click * beater[: len(body)]
        return body

    return hit


def snare(rng: np.random.Generator) -> Hit:
    """Draw a snare drum: two modes of the head, and the wires as a wide band of noise."""
    pitch, ratio = log_uniform(rng, 140, 330), rng.uniform(1.4, 1.9)
    ring, rattle = log_uniform(rng, 0.03, 0.16), log_uniform(rng, 0.04, 0.25)
    low, high = log_uniform(rng, 300, 2500), log_uniform(rng, 5000, 15000)
    wires = rng.uniform(0.35, 1.4)

    def hit() -> Sound:
        count = samples(6 * max(ring, rattle))
        sound = wires * 0.5 * coloured_noise(rng, count, band(low, high)) * fall(count, rattle)
        for number, frequency in enumerate((pitch, pitch * ratio)):
            head = skin(1.25 * frequency, frequency * rng.uniform(0.99, 1.01), 0.01, ring / (1 + number))
            sound[: len(head)] += 0.7 * head[:count] / (1 + number)
        return sound

    return hit


def clap(rng: np.random.Generator) -> Hit:
    """Draw a clap: several bursts of noise around 1 kHz, some milliseconds apart."""
    low = log_uniform(rng, 500, 1200)
    colour, tail = band(low, low * rng.uniform(2, 6)), log_uniform(rng, 0.04, 0.2)
    gaps = rng.uniform(0.006, 0.014, rng.integers(2, 5))

    def hit() -> Sound:
        count = samples(6 * tail)
        sound = 0.6 * noise(rng, count) * fall(count, tail)
        for gap in np.cumsum(gaps):
            hand = samples(gap)
            sound[hand:] += noise(rng, count)[hand:] * fall(count - hand, 0.006)
        return filtered(sound, colour)

    return hit


def rim(rng: np.random.Generator) -> Hit:
    """Draw a rim shot: two short, high modes."""
    pitch, ring = log_uniform(rng, 400, 1900), log_uniform(rng, 0.012, 0.05)
    return lambda: (
        skin(1.1 * pitch, pitch, 0.004, ring)[: samples(5 * ring / 2)]
        + 0.5 * np.pad(skin(2.7 * pitch, 2.6 * pitch, 0.004, ring / 3), (0, samples(5 * ring / 2)))[: samples(5 * ring / 2)]
    )


def metal(rng: np.random.Generator, low: float, count: int, ring: float) -> Sound:
    """Return the sound of one hit on a cymbal: inharmonic modes in a wash of noise; high frequencies decay first.

    Args:
        rng: draws the modes and the noise.
        low: lowest frequency, Hz.
        count: number of samples.
        ring: time constant of the decay at `low`, seconds.
    """
    modes = low * 2 ** (rng.random(20) * 4)
    clang = rng.uniform(0.05, 0.35)
    sound = np.zeros(count)
    for frequency in modes[modes < 17000]:
        level = clang * rng.uniform(0.3, 1)
        sound += level * sine(cycles(frequency, count, rng.random())) * fall(count, ring * (low / frequency) ** 0.4)
    for edge, speed in ((low, 1.0), (3 * low, 0.7), (8 * low, 0.4)):
        wash = coloured_noise(rng, count, _above(min(edge, 9000)))
        sound += rng.uniform(0.5, 1.5) * wash * fall(count, speed * ring)
    return sound / 3


def _above(cutoff: float) -> Response:
    """Return the response of a steep high-pass."""
    return lambda frequencies: high_pass(frequencies, cutoff, 4)


def hats(rng: np.random.Generator) -> tuple[Hit, Hit]:
    """Draw a closed and an open hi-hat: the same pair of cymbals, which ring when open."""
    low = log_uniform(rng, 2500, 7500)
    short, long = log_uniform(rng, 0.012, 0.06), log_uniform(rng, 0.12, 0.45)
    return (lambda: metal(rng, low, samples(6 * short), short)), (lambda: metal(rng, low, samples(4 * long), long))


def cymbal(rng: np.random.Generator, low: float, ring: float, swell: float) -> Hit:
    """Draw a crash (low, long, with a swell) or a ride cymbal.

    Args:
        rng: draws each hit.
        low: lowest frequency, Hz.
        ring: time constant of the decay, seconds.
        swell: level at the blow; below 1 the cymbal swells within 20 ms.
    """
    count = samples(4 * ring)
    rise = 1 - (1 - swell) * fall(count, 0.02)
    return lambda: metal(rng, low, count, ring) * rise


def tom(rng: np.random.Generator, pitch: float) -> Hit:
    """Draw a tom: a head that rings, and a little noise from the stick."""
    ring, bend, rise = log_uniform(rng, 0.09, 0.35), log_uniform(rng, 0.02, 0.09), rng.uniform(1.2, 1.9)
    air = rng.uniform(0.05, 0.3)

    def hit() -> Sound:
        sound = skin(pitch * rise, pitch * rng.uniform(0.98, 1.02), bend, ring)
        stick = samples(0.06)
        sound[:stick] += air * coloured_noise(rng, stick, band(400, 5000))[: len(sound)] * fall(stick, 0.015)[: len(sound)]
        return sound

    return hit


def shaker(rng: np.random.Generator) -> Hit:
    """Draw a shaker: a short swell of high noise."""
    low, length = log_uniform(rng, 2500, 7000), log_uniform(rng, 0.03, 0.12)
    colour = band(low, low * rng.uniform(1.5, 3))
    count = samples(3 * length)
    swell = (times(count) / length) * np.exp(1 - times(count) / length)
    return lambda: 0.7 * coloured_noise(rng, count, colour) * swell


def cowbell(rng: np.random.Generator) -> Hit:
    """Draw a cowbell, a wood block or a conga: two modes and no noise."""
    pitch, ratio, ring = log_uniform(rng, 250, 1600), rng.uniform(1.35, 2.9), log_uniform(rng, 0.03, 0.18)
    count = samples(5 * ring)
    return lambda: (
        (sine(cycles(pitch, count)) + 0.6 * sine(cycles(pitch * ratio, count))) * fall(count, ring * rng.uniform(0.9, 1.1))
    )


class Kit:
    """The drums of one song: a few sounds, a level and a pan position for each."""

    def __init__(self, rng: np.random.Generator) -> None:
        closed, opened = hats(rng)
        low_tom = log_uniform(rng, 60, 110)
        backbeat = (snare, snare, snare, clap, rim)[rng.integers(5)](rng)
        layer = clap(rng) if rng.random() < 0.15 else None
        drums: dict[str, tuple[Hit, float, float]] = {  # sound, level in dB, greatest distance from the middle 0..1
            "kick": (kick(rng), 0, 0.03),
            "snare": ((lambda: add_up(backbeat(), layer())) if layer else backbeat, -1, 0.2),
            "closed": (closed, -8, 0.6),
            "open": (opened, -9, 0.6),
            "ride": (cymbal(rng, log_uniform(rng, 2000, 5000), log_uniform(rng, 0.25, 0.9), 1.0), -11, 0.6),
            "crash": (cymbal(rng, log_uniform(rng, 1000, 3000), log_uniform(rng, 0.4, 1.2), 0.4), -13, 0.7),
            "extra": ((shaker, cowbell, shaker)[rng.integers(3)](rng), -12, 0.9),
        }
        for number in range(3):
            drums[f"tom{number}"] = (tom(rng, low_tom * 1.35 ** (2 - number)), -3, 0.6)
        self.sounds: dict[str, list[Sound]] = {}
        self.gains = {
            name: decibels(level + rng.uniform(-4, 4)) * pan(rng.uniform(-far, far)) for name, (_, level, far) in drums.items()
        }
        self.hits = {name: hit for name, (hit, _, _) in drums.items()}
        self.gains["closed"] = self.gains["open"] * decibels(rng.uniform(-2, 2))  # the same pair of cymbals
        self.rng = rng

    def play(self, track: Sound, name: str, time: float, loudness: float, length: float = 9.0) -> None:
        """Add a hit to `track`, in place.

        Args:
            track: [2, n].
            name: the drum.
            time: seconds from the track's beginning.
            loudness: 0..1.
            length: the sound is cut after so many seconds, like a hi-hat that closes (default 9).
        """
        if name not in self.sounds:
            self.sounds[name] = [peak_one(self.hits[name]()) for _ in range(VARIANTS)]
        sound = self.sounds[name][self.rng.integers(VARIANTS)]
        if len(sound) > length * RATE:
            sound = sound[: samples(length)] * np.minimum(1, np.arange(samples(length), 0, -1) / 400)
        add_at(track, sound, time, self.gains[name] * loudness**1.3 * self.rng.uniform(0.9, 1.1))


def add_up(one: Sound, two: Sound) -> Sound:
    """Add two sounds [n]; the result is as long as the longer one."""
    count = max(len(one), len(two))
    return np.pad(one, (0, count - len(one))) + np.pad(two, (0, count - len(two)))


def peak_one(sound: Sound) -> Sound:
    """Scale a sound to a peak of 1 and fade its last samples to 0."""
    sound = sound / (np.max(np.abs(sound)) + 1e-9)
    tail = min(200, len(sound))
    sound[-tail:] *= np.linspace(1, 0, tail)
    return sound


def play_drums(rng: np.random.Generator, score: Score) -> Sound:
    """Play the drums of a song: stereo [2, n]."""
    track: Sound = np.zeros((2, samples(score.seconds)))
    kit = Kit(rng)
    looseness = rng.uniform(0, 0.009)  # seconds, standard deviation of the timing; 0 is a drum machine
    ride_from, opening, extra = rng.uniform(0.3, 1.3), rng.uniform(0, 0.25), rng.random() < 0.45
    extra_steps = rng.random(score.steps) < rng.uniform(0.2, 0.7)
    fill_drums = [("tom0", "tom1", "tom2"), ("snare", "snare"), ("tom0", "tom2"), ("snare", "tom1", "kick")][rng.integers(4)]
    fill_chance, crash_chance = rng.uniform(0.3, 1), rng.uniform(0.2, 0.9)
    for bar in score.bars_of("drums"):
        events = _bar(rng, score, bar, "ride" if bar.energy > ride_from else "closed", opening)
        if extra:
            events += [(step, "extra", 0.6) for step in np.flatnonzero(extra_steps)]
        if bar.last and rng.random() < fill_chance:
            fill = draw_fill(rng, score.steps, fill_drums)
            events = [event for event in events if not fill or event[0] < fill[0][0]] + fill
        if bar.first and rng.random() < crash_chance:
            events.append((0, "crash", 0.9))
        for step, name, loudness in events:
            time = score.time(bar, step)
            late = 0.0 if bar is score.bars[0] and step == 0 else rng.normal(0, looseness)
            kit.play(track, name, time + late, loudness, length=score.step * 1.9 if name == "open" else 9.0)
    track = drive(levelled(track), rng.choice([0, 0.15, 0.3, 0.5]))
    return compress(track, rng.uniform(0, 0.35))


def _bar(rng: np.random.Generator, score: Score, bar: Bar, cymbal_name: str, opening: float) -> list[tuple[int, str, float]]:
    """Return the hits of one bar: (step, drum, loudness). `opening` is the chance that a hi-hat off the beat is open."""
    events: list[tuple[int, str, float]] = []
    quiet = 0.6 + 0.4 * bar.energy
    for step in range(score.steps):
        for name, grid in (("kick", score.groove.kick), ("snare", score.groove.snare), (cymbal_name, score.groove.hats)):
            if grid[step] > 0 and (grid[step] > 0.5 or rng.random() < 0.8):
                opens = name == "closed" and step % 4 == 2 and rng.random() < opening
                events.append((step, "open" if opens else name, quiet * grid[step]))
    return events
