"""Songs for a page, and the state of the page's players in a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from my_submission.src import report
from tests.helpers.browser import Browser

INSTRUMENTS = ("bass", "drums", "other", "vocals")
RATE = 22050
SECONDS = 12.0
NAMES = ['one <img src=x onerror="document.title=1"> & "two"', "100% #2?\nü"]
STATE = """
    const lanes = [...document.querySelectorAll(arguments[0] + " .lane")];
    const pressed = (kind) => lanes.map((lane) => lane.querySelector(kind).getAttribute("aria-pressed") === "true");
    return {
        times: lanes.map((lane) => lane.querySelector("audio").currentTime),
        paused: lanes.map((lane) => lane.querySelector("audio").paused),
        heard: lanes.flatMap((lane, index) => lane.querySelector("audio").muted ? [] : [index]),
        solo: pressed(".solo").flatMap((on, index) => on ? [index] : []),
        mute: pressed(".mute").flatMap((on, index) => on ? [index] : []),
        told: document.querySelector(arguments[0] + " .hearing").textContent,
        slider: Number(document.querySelector(arguments[0] + " .seek input").value),
        volumes: lanes.map((lane) => lane.querySelector("audio").volume),
        loop: document.querySelector(arguments[0] + " .looping").textContent,
        shown: document.querySelector(arguments[0] + " .now").textContent,
        button: document.querySelector(arguments[0] + " .play").textContent.trim(),
    };"""


def make_songs(folder: Path, names: list[str] = NAMES, seconds: float = SECONDS) -> list[report.Song]:
    """Return songs of tones, with references and scores."""
    folder.mkdir()
    time = np.arange(round(seconds * RATE)) / RATE
    for number, instrument in enumerate(INSTRUMENTS, 1):
        tone = 0.1 * np.sin(2 * np.pi * 110 * number * time) * (1 + np.sin(2 * np.pi * number * time)) / 2
        soundfile.write(folder / f"{instrument}.wav", np.stack([tone, tone], axis=1), RATE)
        soundfile.write(folder / f"e_{instrument}.wav", np.stack([tone, tone], axis=1) * 0.8, RATE)
    mixture = sum(soundfile.read(folder / f"{instrument}.wav")[0] for instrument in INSTRUMENTS)
    soundfile.write(folder / "mixture.wav", mixture, RATE)
    estimates, references = ({name: folder / f"{kind}{name}.wav" for name in INSTRUMENTS} for kind in ("e_", ""))
    score = dict.fromkeys(INSTRUMENTS, 10 * np.log10(25))
    return [report.Song(name, folder / "mixture.wav", estimates, references, score, {}, 3.0) for name in names]


def state(page: Browser, track: str = "#track-1") -> dict:
    return page.run(STATE, track)


def wait_until_playing(page: Browser, track: str = "#track-1", after: float = 0.0) -> None:
    """Wait until all lanes play, synchronised, past a time in seconds."""
    page.wait(
        """[...document.querySelectorAll(arguments[0] + " audio")].map((a) => a.paused ? -1 : a.currentTime).every(
            (time, _, times) => time > arguments[1] && Math.abs(time - times[0]) < 0.05)""".replace("\n", " "),
        track,
        after,
    )


def lane(number: int, part: str, track: str = "#track-1") -> str:
    return f"{track} .lane:nth-of-type({number}) {part}"
