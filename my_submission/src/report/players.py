"""The HTML of a player: the lanes of a song, which share one position. page.js makes it work.

Without JavaScript, each lane shows its <audio> element.

Every name goes through `text`. Names of files stand between FILE_MARKs; `page.write_with_files` replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from my_submission.src.common.text import shown
from my_submission.src.report.lanes import MIXTURE, Lane, file_name
from my_submission.src.report.pictures import height_of

FILE_MARK = "\0"  # around the name of a file; `text` escapes it everywhere else
TAIL = 3 * 4096  # samples: in the last three FLAC blocks of a file, a seek may never finish (seen in Chromium 156)
MIX = '<button type="button" class="mix" aria-pressed="false" aria-keyshortcuts="X">Mix stems</button>'


def text(value: object) -> str:
    """Return anything as escaped text on one line, for the page or for a quoted attribute; invisible characters are shown."""
    return escape(shown(str(value)))


def clock(seconds: float) -> str:
    """Return a time like 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def player(
    name: str,
    seconds: float,
    sample_rate: int,
    lanes: Sequence[Lane],
    figures: Mapping[str, str],
    *,
    begin: float = 0.0,
    strip: str = "",
) -> str:
    """Return the player of a song, with a row for each lane; at first only the first lane is heard.

    Args:
        name: of the song.
        seconds: its duration.
        sample_rate: of its audio, Hz.
        lanes: the rows of the player, one or more.
        figures: name of a lane -> markup shown next to it, such as its score.
        begin: where playing begins, seconds (default: 0).
        strip: markup of a row above the lanes (default: none).
    """
    ticks = "".join(_tick(tick, seconds) for tick in _ticks(seconds))
    rows = "".join(_lane(position, lane, figures.get(lane.name, ""), name) for position, lane in enumerate(lanes, 1))
    mix = lanes[0].kind == MIXTURE and any(lane.kind == "estimate" for lane in lanes)
    named = text(name)
    return f"""<div class="player" role="group" aria-label="Player of {named}" tabindex="-1" \
data-seconds="{seconds:.6f}" data-tail="{TAIL / sample_rate:.6f}" data-begin="{begin:.3f}">
<div class="transport">
<div class="controls">
<button type="button" class="play" aria-keyshortcuts="K Space"><svg aria-hidden="true" viewBox="0 0 12 12">\
<path class="to-play" d="M2 1l9 5-9 5z"/><path class="to-pause" d="M2 1h3v10H2zM7 1h3v10H7z"/></svg><span>Play</span></button>
<span class="time"><span class="now">0:00.0</span> / {clock(seconds)}</span>
<output class="hearing">Hearing: {text(lanes[0].name)}</output>
</div>
<div class="seek"><input type="range" min="0" max="{seconds:.6f}" step="0.01" value="0" autocomplete="off" \
aria-label="Position in {named}" aria-keyshortcuts="ArrowLeft ArrowRight">\
<div class="ruler" aria-hidden="true">{ticks}</div></div>
<div class="tools">{MIX if mix else ""}<span class="loop" role="group" aria-label="Loop"><span>Loop</span>
<button type="button" class="loop-begin" aria-label="Begin the loop here" aria-keyshortcuts="[">[</button>\
<button type="button" class="loop-end" aria-label="End the loop here" aria-keyshortcuts="]">]</button>\
<button type="button" class="loop-clear" aria-label="Clear the loop" aria-keyshortcuts="C">Clear</button>
<output class="looping">none</output></span></div>
</div>
<div class="lanes">{strip}{rows}<div class="over" aria-hidden="true"><div class="region" hidden></div>\
<div class="head"></div></div></div>
</div>"""


def _lane(number: int, lane: Lane, figure: str, song: str) -> str:
    """Return a row of a player. The audio comes before its download link: an embedded page holds it where it is first named."""
    name = text(lane.name)
    who = f"<b>{text(lane.instrument or lane.kind)}</b>" + (f" {lane.kind}" if lane.instrument else "")
    mute = "false" if number == 1 else "true"
    axis = "".join(
        f'<span style="bottom:{100 * height_of(hertz):.1f}%">{label}</span>'
        for hertz, label in ((100, "100"), (1000, "1k"), (10000, "10k"))
    )
    return f"""
<div class="lane {lane.kind}" role="group" aria-label="{name}" data-kind="{lane.kind}" \
data-instrument="{text(lane.instrument)}">
<audio controls preload="none" aria-label="{name}" src="{FILE_MARK}{lane.audio}{FILE_MARK}"></audio>
<div class="label"><span class="number" aria-hidden="true">{number}</span><span class="who">{who}</span>
<span class="buttons"><button type="button" class="mute" aria-pressed="{mute}" aria-label="Mute {name}" \
aria-keyshortcuts="M">Mute</button><button type="button" class="solo" aria-pressed="false" aria-label="Solo {name}" \
aria-keyshortcuts="S">Solo</button></span>{figure}
<label class="level"><span>Volume</span><input type="range" class="fader" min="0" max="100" value="100" autocomplete="off" \
aria-label="Volume of {name}"><span class="gain">0.0 dB</span></label>
<a class="download" download="{text(file_name(song, lane))}" target="_blank" rel="noopener" \
aria-label="FLAC, {_size(lane.num_bytes)}: download {name}" href="{FILE_MARK}{lane.audio}{FILE_MARK}">FLAC \
<span>{_size(lane.num_bytes)}</span></a></div>
<div class="pictures"><img class="waveform" loading="lazy" decoding="async" width="1000" height="40" alt="Waveform of {name}" \
src="{FILE_MARK}{lane.waveform}{FILE_MARK}"><img class="spectrogram" loading="lazy" decoding="async" width="1000" height="64" \
alt="Spectrogram of {name}" src="{FILE_MARK}{lane.spectrogram}{FILE_MARK}"></div>
<div class="axis" aria-hidden="true">{axis}</div>
</div>"""


def _size(num_bytes: int) -> str:
    """Return the size of a file like 1.3 MB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _tick(tick: int, seconds: float) -> str:
    """Return a label of the ruler; labels at its ends are aligned so that they do not stick out."""
    kind = "begin" if tick == 0 else "end" if tick > 0.97 * seconds else "within"
    return f'<span class="{kind}" style="left:{100 * tick / seconds:.3f}%">{clock(tick)}</span>'


def _ticks(seconds: float) -> list[int]:
    """Return the times of a ruler's labels, seconds: at most eleven, or one per half hour in a very long song."""
    step = next((step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600) if seconds / step <= 10), 1800)
    return list(range(0, int(seconds) + 1, step))
