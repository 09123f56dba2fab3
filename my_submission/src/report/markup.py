"""The HTML of an evaluation's page, and the frame of every page. Every name in it goes through `players.text`."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import fmean

from my_submission.src.audio.files import AudioFile
from my_submission.src.evaluation.results import LIMIT
from my_submission.src.report.chart import bar_chart, decibels
from my_submission.src.report.lanes import ESTIMATES, MIXTURE, Lane, Song
from my_submission.src.report.players import clock, player, text

HERE = Path(__file__).parent
STYLES = ("page.css", "player.css")
SCRIPTS = ("lane.js", "loop.js", "page.js")
HOW = (
    "All lanes of a song share one position: press <b>Solo</b> while it plays, and the sound switches where it is. Solo "
    "again ends it; with Ctrl or Shift, several sound at once. <b>Mix stems</b> plays all estimates together, each at the "
    "volume of its fader. Click a picture to go there. The waveforms and colours of an estimate and its reference have one "
    "scale."
)
ROW_NAMES = {ESTIMATES: "this model", MIXTURE: "mixture"}  # of the scores
FEW, MANY = 2, 8  # songs: up to FEW, all are unfolded at first; with more than MANY, the table of scores scrolls in a frame


def page(
    title: str,
    songs: Sequence[Song],
    lanes: Sequence[Sequence[Lane]],
    facts: Mapping[str, object],
    failed: Mapping[str, str],
) -> str:
    """Return the whole page of an evaluation, with FILE_MARKs around the names of files.

    Args:
        title: heading of the page.
        songs: in the order of the page, with the mixture among their compared scores if they were scored.
        lanes: the lanes of each song.
        facts: settings shown at the end: name -> value.
        failed: song -> why it is not on the page.
    """
    scored = [song for song in songs if song.scores]
    seconds = sum(song.seconds for song in songs)
    return fill_frame(
        title=title,
        subtitle=f"{len(songs)} {'song' if len(songs) == 1 else 'songs'}, {clock(seconds)} of audio",
        above=_tiles(songs, scored, failed) + _scores(scored, songs) + failed_list(failed),
        how=HOW,
        swap="estimate and reference (truth)",
        tracks="".join(
            _song(number, song, song_lanes, opened=number == 1 or len(songs) <= FEW)
            for number, song, song_lanes in zip(count(1), songs, lanes, strict=False)
        ),
        facts=facts,
    )


def fill_frame(
    *,
    title: str,
    subtitle: str,
    above: str,
    how: str,
    swap: str,
    tracks: str,
    facts: Mapping[str, object],
    scripts: Sequence[Path] = (),
) -> str:
    """Return a page: page.html with everything filled in. Title, subtitle and facts are text, the rest is markup.

    Args:
        title: heading of the page.
        subtitle: the line below it.
        above: everything before the players.
        how: explains how to use the players.
        swap: the two kinds of lanes between which the key T switches.
        tracks: the players.
        facts: settings shown at the end: name -> value.
        scripts: files of further scripts, appended to the players' (default: none).
    """
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in STYLES)
    script = "".join(path.read_text(encoding="utf-8") for path in (*(HERE / name for name in SCRIPTS), *scripts))
    return string.Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(title),
        subtitle=text(subtitle),
        style=style,
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        above=above,
        how=how,
        swap=swap,
        tracks=tracks,
        facts="".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items()),
    )


def _row(scores: Mapping[str, float]) -> list[float]:
    """Return the scores of a row: each instrument's, and their mean."""
    return [*scores.values(), fmean(scores.values())]


def _means(scored: Sequence[Song]) -> dict[str, list[float]]:
    """Return estimates -> row of means over the songs, for the estimates that were scored on every song."""
    names = [name for name in scored[0].scores if all(name in song.scores for song in scored)]
    return {
        name: [fmean(column) for column in zip(*(_row(song.scores[name]) for song in scored), strict=True)] for name in names
    }


def _tiles(songs: Sequence[Song], scored: Sequence[Song], failed: Mapping[str, str]) -> str:
    """Return the tiles at the top of the page."""
    tiles = []
    if scored:
        means = _means(scored)
        mixture = means[MIXTURE][-1]
        gained = means[ESTIMATES][-1] - mixture
        below = f"{decibels(gained, 3)} dB above the mixture's {decibels(mixture, 3)} dB"
        tiles.append(tile("Mean SDR", f"{decibels(means[ESTIMATES][-1], 3)} <small>dB</small>", below))
    timed = [(song.separation_seconds, song) for song in songs if song.separation_seconds is not None]
    if timed:
        factor = sum(seconds for seconds, _ in timed) / sum(song.seconds for _, song in timed)
        slowest, song = max(((seconds / song.seconds, song) for seconds, song in timed), key=lambda pair: pair[0])
        over = slowest > LIMIT
        verdict = "over" if over else "within"
        below = f"slowest {slowest:.3f} × ({text(song.name)}), {verdict} the challenge's limit of {LIMIT} ×"
        tiles.append(tile("Real-time factor", f"{factor:.3f} <small>×</small>", _meter(factor, slowest) + below, over))
    if scored or failed:
        others = [(len(songs) - len(scored), "separated, not scored"), (len(failed), "failed")]
        below = ", ".join(f"{number} {state}" for number, state in others if number)
        figure = f"{len(scored)} <small>of {len(songs) + len(failed)}</small>"
        tiles.append(tile("Songs scored", figure, below, bool(failed)))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def tile(name: str, figure: str, below: str, warns: bool = False) -> str:
    """Return a tile: a name, a large figure and a line below it, all of them markup. A tile that warns is coloured."""
    kind = "tile warns" if warns else "tile"
    return f'<div class="{kind}"><dt>{name}</dt><dd class="figure">{figure}</dd><dd class="below">{below}</dd></div>'


def _meter(factor: float, slowest: float) -> str:
    """Return a bar of the mean and the slowest real-time factor, with a mark at the limit."""
    whole = 1.1 * max(LIMIT, slowest)
    at = {name: f"{100 * value / whole:.1f}%" for name, value in (("mean", factor), ("worst", slowest), ("limit", LIMIT))}
    return (
        '<svg class="meter" aria-hidden="true" height="14"><rect class="all" width="100%" y="4" height="6" rx="3"/>'
        f'<rect class="worst" width="{at["worst"]}" y="4" height="6" rx="3"/>'
        f'<rect class="mean" width="{at["mean"]}" y="4" height="6" rx="3"/>'
        f'<line class="limit" x1="{at["limit"]}" x2="{at["limit"]}" y1="0" y2="14"/></svg>'
    )


def _scores(scored: Sequence[Song], songs: Sequence[Song]) -> str:
    """Return the chart and the table of the scores; nothing if no song was scored."""
    if not scored:
        return ""
    means, instruments = _means(scored), list(scored[0].sdr)
    classes = [_series(name, means) for name in means]
    averaged = "song" if len(scored) == 1 else f"{len(scored)} songs"
    label = f"Global SDR by instrument, mean over {averaged}"
    series = {ROW_NAMES.get(name, name): values for name, values in means.items()}
    legend = "".join(f'<li class="{kind}">{text(name)}</li>' for name, kind in zip(series, classes, strict=True))
    chart = bar_chart([*instruments, "mean"], series, classes, label)
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in [*instruments, "mean"])
    rows = _group("means", f"Mean over {averaged}", means)
    for number, song in enumerate(songs, 1):
        if song.scores:
            heading = f'<a href="#track-{number}">{text(song.name)}</a>'
            if song.real_time_factor is not None:
                heading += f' <span class="speed">separated in {song.real_time_factor:.3f} × its duration</span>'
            rows += _group("song", heading, {name: _row(scores) for name, scores in song.scores.items()})
    wide = "wide long" if len(scored) > MANY else "wide"
    return (
        '<section class="scores" aria-labelledby="scores"><h2 id="scores">Scores</h2>'
        f'<figure><figcaption>{label}, dB</figcaption><ul class="legend">{legend}</ul>{chart}</figure>'
        f'<div class="{wide}" role="region" aria-label="Table of scores" tabindex="0"><table>'
        "<caption>Global SDR in dB: more is better. Scores of the mixture are those of doing nothing: it is taken as the "
        "estimate of every instrument."
        f'</caption><thead><tr><th scope="col">whose</th>{heads}</tr></thead>{rows}</table></div></section>'
    )


def _series(name: str, means: Mapping[str, object]) -> str:
    """Return the CSS class of the bars of some estimates."""
    if name in (ESTIMATES, MIXTURE):
        return name
    return f"other-{[other for other in means if other not in (ESTIMATES, MIXTURE)].index(name) % 4}"


def _group(kind: str, heading: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Return the table's rows of one song, or of the means, under a heading, which is markup."""
    columns = 1 + len(rows[ESTIMATES])
    lines = [f'<tr><th scope="rowgroup" colspan="{columns}">{heading}</th></tr>']
    for name, values in rows.items():
        cells = "".join(f"<td>{decibels(value, 3)}</td>" for value in values)
        row = "ours" if name == ESTIMATES else "compared"
        lines.append(f'<tr class="{row}"><th scope="row">{text(ROW_NAMES.get(name, name))}</th>{cells}</tr>')
    return f'<tbody class="{kind}">{"".join(lines)}</tbody>'


def failed_list(failed: Mapping[str, str]) -> str:
    """Return the list of the failures with their reasons; nothing if there are none."""
    if not failed:
        return ""
    items = "".join(f"<li><b>{text(name)}</b>: {text(' '.join(reason.split()))}</li>" for name, reason in failed.items())
    return f'<section class="failed" aria-labelledby="failed"><h2 id="failed">Failed</h2><ul>{items}</ul></section>'


def _song(number: int, song: Song, lanes: Sequence[Lane], opened: bool) -> str:
    """Return the section of a song: its name, its score and its player."""
    score = f'<span class="score">mean SDR {decibels(fmean(song.sdr.values()), 3)} dB</span>' if song.sdr else ""
    figures = {
        lane.name: f'<span class="sdr">{decibels(song.sdr[lane.instrument], 3)}<span class="unit"> dB</span></span>'
        for lane in lanes
        if lane.kind == "estimate" and lane.instrument in song.sdr
    }
    return f"""
<details class="track" id="track-{number}"{" open" if opened else ""}>
<summary><h3>{text(song.name)}</h3><span class="length">{clock(song.seconds)}</span>{score}</summary>
{player(song.name, song.seconds, AudioFile(song.mixture).sample_rate, lanes, figures)}
</details>"""
