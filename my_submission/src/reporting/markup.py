"""The page's HTML. Every name in it goes through `text`; places of files are marked, and filled in as the page is written."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path

from my_submission.src.audio import AudioFile
from my_submission.src.reporting.chart import bar_chart, decibels
from my_submission.src.reporting.lanes import ESTIMATES, MIXTURE, Lane, Track
from my_submission.src.reporting.pictures import height_of
from my_submission.src.scores import LIMIT, shown

FILE_MARK = "\0"  # around the name of a file; no text has one, as none keeps its control characters
HERE = Path(__file__).parent
SPEAKER = {ESTIMATES: "this model", MIXTURE: "mixture"}  # what rows of scores are called
TAIL = 3 * 4096  # samples at the end, three blocks of FLAC, into which Chromium (156) may seek and never arrive
FEW, MANY = 2, 8  # tracks: up to FEW, all are unfolded at first; from MANY on, their scores are scrolled in a frame


def page(
    title: str,
    tracks: Sequence[Track],
    lanes: Sequence[Sequence[Lane]],
    facts: Mapping[str, object],
    failed: Mapping[str, str],
) -> str:
    """The whole page; names of files stand between FILE_MARKs."""
    frame, style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    scored = [track for track in tracks if track.scores]
    seconds = sum(track.seconds for track in tracks)
    songs = f"{len(tracks)} {'song' if len(tracks) == 1 else 'songs'}, {clock(seconds)} of audio"
    return string.Template(frame).substitute(
        title=text(title),
        songs=songs,
        style=style,
        script=script,
        digest=digest,
        tiles=_tiles(tracks, scored, failed),
        scores=_scores(scored, tracks),
        failed=_failed(failed),
        tracks="".join(
            _track(number, track, track_lanes, opened=number == 1 or len(tracks) <= FEW)
            for number, track, track_lanes in zip(count(1), tracks, lanes, strict=False)
        ),
        facts="".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items()),
    )


def text(value: object) -> str:
    """Anything as text of the page, or in quotes as an attribute's: on one line, nothing in it markup, nothing invisible."""
    return escape(shown(str(value)))


def clock(seconds: float) -> str:
    """A time like 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _row(scores: dict[str, float]) -> list[float]:
    """The scores of a row: each instrument's, and their mean."""
    return [*scores.values(), _mean(scores.values())]


def _means(scored: Sequence[Track]) -> dict[str, list[float]]:
    """Whose -> the row of means over songs, of those that were scored on every one of them."""
    whose = [name for name in scored[0].scores if all(name in track.scores for track in scored)]
    return {
        name: [_mean(column) for column in zip(*(_row(track.scores[name]) for track in scored), strict=True)] for name in whose
    }


def _tiles(tracks: Sequence[Track], scored: Sequence[Track], failed: Mapping[str, str]) -> str:
    """The figures that matter most."""
    tiles = []
    if scored:
        means = _means(scored)
        mixture = means[MIXTURE][-1]
        gained = means[ESTIMATES][-1] - mixture
        below = f"{decibels(gained, 3)} dB above the mixture's {decibels(mixture, 3)} dB"
        tiles.append(_tile("Mean SDR", f"{decibels(means[ESTIMATES][-1], 3)} <small>dB</small>", below))
    timed = [track for track in tracks if track.separation_seconds is not None]
    if timed:
        factor = sum(track.separation_seconds for track in timed) / sum(track.seconds for track in timed)
        slowest = max(timed, key=_factor)
        over = _factor(slowest) > LIMIT
        verdict = "over" if over else "within"
        below = f"slowest {_factor(slowest):.3f} × ({text(slowest.name)}), {verdict} the challenge's limit of {LIMIT} ×"
        tiles.append(
            _tile("Real-time factor", f"{factor:.3f} <small>×</small>", _meter(factor, _factor(slowest)) + below, over)
        )
    if scored or failed:
        others = [(len(tracks) - len(scored), "separated, not scored"), (len(failed), "failed")]
        below = ", ".join(f"{number} {what}" for number, what in others if number)
        figure = f"{len(scored)} <small>of {len(tracks) + len(failed)}</small>"
        tiles.append(_tile("Songs scored", figure, below, bool(failed)))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _tile(name: str, figure: str, below: str, warns: bool = False) -> str:
    kind = "tile warns" if warns else "tile"
    return f'<div class="{kind}"><dt>{name}</dt><dd class="figure">{figure}</dd><dd class="below">{below}</dd></div>'


def _factor(track: Track) -> float:
    return track.separation_seconds / track.seconds


def _meter(factor: float, slowest: float) -> str:
    """The real-time factor on a line that has the limit marked."""
    whole = 1.1 * max(LIMIT, slowest)
    at = {name: f"{100 * value / whole:.1f}%" for name, value in (("mean", factor), ("worst", slowest), ("limit", LIMIT))}
    return (
        '<svg class="meter" aria-hidden="true" height="14"><rect class="all" width="100%" y="4" height="6" rx="3"/>'
        f'<rect class="worst" width="{at["worst"]}" y="4" height="6" rx="3"/>'
        f'<rect class="mean" width="{at["mean"]}" y="4" height="6" rx="3"/>'
        f'<line class="limit" x1="{at["limit"]}" x2="{at["limit"]}" y1="0" y2="14"/></svg>'
    )


def _scores(scored: Sequence[Track], tracks: Sequence[Track]) -> str:
    """Chart and table; nothing where nothing was scored."""
    if not scored:
        return ""
    means, instruments = _means(scored), list(scored[0].sdr)
    classes = [_series(whose, means) for whose in means]
    songs = "song" if len(scored) == 1 else f"{len(scored)} songs"
    label = f"Global SDR by instrument, mean over {songs}"
    series = {SPEAKER.get(whose, whose): values for whose, values in means.items()}
    legend = "".join(f'<li class="{kind}">{text(name)}</li>' for name, kind in zip(series, classes, strict=True))
    chart = bar_chart([*instruments, "mean"], series, classes, label)
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in [*instruments, "mean"])
    rows = _group("means", f"Mean over {songs}", means)
    for number, track in enumerate(tracks, 1):
        if track.scores:
            name = f'<a href="#track-{number}">{text(track.name)}</a>'
            if track.separation_seconds is not None:
                name += f' <span class="speed">separated in {_factor(track):.3f} × its duration</span>'
            rows += _group("song", name, {whose: _row(scores) for whose, scores in track.scores.items()})
    wide = "wide long" if len(scored) > MANY else "wide"
    return (
        '<section class="scores" aria-labelledby="scores"><h2 id="scores">Scores</h2>'
        f'<figure><figcaption>{label}, dB</figcaption><ul class="legend">{legend}</ul>{chart}</figure>'
        f'<div class="{wide}" role="region" aria-label="Table of scores" tabindex="0"><table>'
        "<caption>Global SDR in dB: more is better. Scores of the mixture are those of doing nothing: it is taken as the "
        "estimate of every instrument."
        f'</caption><thead><tr><th scope="col">whose</th>{heads}</tr></thead>{rows}</table></div></section>'
    )


def _series(whose: str, means: Mapping[str, object]) -> str:
    """CSS class of whose bars they are."""
    if whose in (ESTIMATES, MIXTURE):
        return whose
    return f"other-{[name for name in means if name not in (ESTIMATES, MIXTURE)].index(whose) % 4}"


def _group(kind: str, name: str, rows: Mapping[str, Sequence[float]]) -> str:
    """The rows of one song, or of all, under a name, which is markup."""
    columns = 1 + len(rows[ESTIMATES])
    lines = [f'<tr><th scope="rowgroup" colspan="{columns}">{name}</th></tr>']
    for whose, values in rows.items():
        cells = "".join(f"<td>{decibels(value, 3)}</td>" for value in values)
        row = "ours" if whose == ESTIMATES else "compared"
        lines.append(f'<tr class="{row}"><th scope="row">{text(SPEAKER.get(whose, whose))}</th>{cells}</tr>')
    return f'<tbody class="{kind}">{"".join(lines)}</tbody>'


def _failed(failed: Mapping[str, str]) -> str:
    if not failed:
        return ""
    items = "".join(f"<li><b>{text(name)}</b>: {text(' '.join(reason.split()))}</li>" for name, reason in failed.items())
    return f'<section class="failed" aria-labelledby="failed"><h2 id="failed">Failed</h2><ul>{items}</ul></section>'


def _track(number: int, track: Track, lanes: Sequence[Lane], opened: bool) -> str:
    """The players of a track."""
    seconds, name = track.seconds, text(track.name)
    tail = TAIL / AudioFile(track.mixture).sample_rate
    score = f'<span class="score">mean SDR {decibels(_mean(track.sdr.values()), 3)} dB</span>' if track.sdr else ""
    ticks = "".join(_tick(tick, seconds) for tick in _ticks(seconds))
    rows = "".join(_lane(position, lane, track) for position, lane in enumerate(lanes, 1))
    return f"""
<details class="track" id="track-{number}"{" open" if opened else ""}>
<summary><h3>{name}</h3><span class="length">{clock(seconds)}</span>{score}</summary>
<div class="player" role="group" aria-label="Player of {name}" tabindex="-1" \
data-seconds="{seconds:.6f}" data-tail="{tail:.6f}">
<div class="transport">
<div class="controls">
<button type="button" class="play" aria-keyshortcuts="K Space"><svg aria-hidden="true" viewBox="0 0 12 12">\
<path class="to-play" d="M2 1l9 5-9 5z"/><path class="to-pause" d="M2 1h3v10H2zM7 1h3v10H7z"/></svg><span>Play</span></button>
<span class="time"><span class="now">0:00.0</span> / {clock(seconds)}</span>
<output class="hearing">Hearing: mixture</output>
</div>
<div class="seek"><input type="range" min="0" max="{seconds:.6f}" step="0.01" value="0" aria-label="Position in {name}" \
aria-keyshortcuts="ArrowLeft ArrowRight"><div class="ruler" aria-hidden="true">{ticks}</div></div>
</div>
<div class="lanes">{rows}<div class="over" aria-hidden="true"><div class="head"></div></div></div>
</div>
</details>"""


def _lane(number: int, lane: Lane, track: Track) -> str:
    name = text(lane.name)
    scored = lane.kind == "estimate" and lane.instrument in track.sdr
    score = f'<span class="sdr">{decibels(track.sdr[lane.instrument], 3)}<span class="unit"> dB</span></span>' if scored else ""
    who = f"<b>{text(lane.instrument or 'mixture')}</b>" + (f" {lane.kind}" if lane.instrument else "")
    mute = "false" if lane.kind == "mixture" else "true"
    axis = "".join(
        f'<span style="bottom:{100 * height_of(hertz):.1f}%">{label}</span>'
        for hertz, label in ((100, "100"), (1000, "1k"), (10000, "10k"))
    )
    return f"""
<div class="lane {lane.kind}" role="group" aria-label="{name}" data-instrument="{text(lane.instrument)}">
<div class="label"><span class="number" aria-hidden="true">{number}</span><span class="who">{who}</span>
<span class="buttons"><button type="button" class="mute" aria-pressed="{mute}" aria-label="Mute {name}">Mute</button>\
<button type="button" class="solo" aria-pressed="false" aria-label="Solo {name}">Solo</button></span>{score}</div>
<div class="pictures"><img class="waveform" loading="lazy" decoding="async" width="1000" height="40" alt="Waveform of {name}" \
src="{FILE_MARK}{lane.waveform}{FILE_MARK}"><img class="spectrogram" loading="lazy" decoding="async" width="1000" height="64" \
alt="Spectrogram of {name}" src="{FILE_MARK}{lane.spectrogram}{FILE_MARK}"></div>
<div class="axis" aria-hidden="true">{axis}</div>
<audio preload="none" src="{FILE_MARK}{lane.audio}{FILE_MARK}"></audio>
</div>"""


def _tick(tick: int, seconds: float) -> str:
    """A time on the ruler; those at its ends do not stick out."""
    kind = "begin" if tick == 0 else "end" if tick > 0.97 * seconds else "within"
    return f'<span class="{kind}" style="left:{100 * tick / seconds:.3f}%">{clock(tick)}</span>'


def _ticks(seconds: float) -> list[int]:
    """Times for a ruler, ten at most."""
    step = next((step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600) if seconds / step <= 10), 1800)
    return list(range(0, int(seconds) + 1, step))
