"""The HTML of an evaluation's page, and the frame that every page has. Every name in it goes through `players.text`."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.evaluation.results import LIMIT
from my_submission.src.report.chart import bar_chart, decibels
from my_submission.src.report.lanes import ESTIMATES, MIXTURE, Lane, Track
from my_submission.src.report.players import clock, player, text

HERE = Path(__file__).parent
HOW = (
    "All players of a song share one position: press <b>Solo</b> while it plays, and the sound switches where it is. Solo "
    "again ends it; with Ctrl or Shift, several sound at once. Click a picture to go there. The waveforms and colours of an "
    "estimate and its reference have one scale."
)
SPEAKER = {ESTIMATES: "this model", MIXTURE: "mixture"}  # what rows of scores are called
FEW, MANY = 2, 8  # tracks: up to FEW, all are unfolded at first; from MANY on, their scores are scrolled in a frame


def page(
    title: str,
    tracks: Sequence[Track],
    lanes: Sequence[Sequence[Lane]],
    facts: Mapping[str, object],
    failed: Mapping[str, str],
) -> str:
    """The whole page of an evaluation; names of files stand between FILE_MARKs."""
    scored = [track for track in tracks if track.scores]
    seconds = sum(track.seconds for track in tracks)
    return fill_frame(
        title=title,
        subtitle=f"{len(tracks)} {'song' if len(tracks) == 1 else 'songs'}, {clock(seconds)} of audio",
        above=_tiles(tracks, scored, failed) + _scores(scored, tracks) + failed_list(failed),
        how=HOW,
        swap="estimate and reference (truth)",
        tracks="".join(
            _track(number, track, track_lanes, opened=number == 1 or len(tracks) <= FEW)
            for number, track, track_lanes in zip(count(1), tracks, lanes, strict=False)
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
    """A page: its frame with everything in it. Title, subtitle and facts are text, the rest is markup.

    Args:
        above: what stands before the players.
        how: what a person needs to know to use them.
        swap: what their key T switches between.
        tracks: the players.
        facts: what made it: name -> value.
        scripts: further scripts, after page.js.
    """
    frame, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.html", "page.css"))
    script = "".join(path.read_text(encoding="utf-8") for path in (HERE / "page.js", *scripts))
    return string.Template(frame).substitute(
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
        tiles.append(tile("Mean SDR", f"{decibels(means[ESTIMATES][-1], 3)} <small>dB</small>", below))
    timed = [track for track in tracks if track.separation_seconds is not None]
    if timed:
        factor = sum(track.separation_seconds for track in timed) / sum(track.seconds for track in timed)
        slowest = max(timed, key=_factor)
        over = _factor(slowest) > LIMIT
        verdict = "over" if over else "within"
        below = f"slowest {_factor(slowest):.3f} × ({text(slowest.name)}), {verdict} the challenge's limit of {LIMIT} ×"
        tiles.append(tile("Real-time factor", f"{factor:.3f} <small>×</small>", _meter(factor, _factor(slowest)) + below, over))
    if scored or failed:
        others = [(len(tracks) - len(scored), "separated, not scored"), (len(failed), "failed")]
        below = ", ".join(f"{number} {what}" for number, what in others if number)
        figure = f"{len(scored)} <small>of {len(tracks) + len(failed)}</small>"
        tiles.append(tile("Songs scored", figure, below, bool(failed)))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def tile(name: str, figure: str, below: str, warns: bool = False) -> str:
    """A figure among those that matter most; name, figure and what is below are markup."""
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


def failed_list(failed: Mapping[str, str]) -> str:
    """What failed, and why; nothing where nothing did."""
    if not failed:
        return ""
    items = "".join(f"<li><b>{text(name)}</b>: {text(' '.join(reason.split()))}</li>" for name, reason in failed.items())
    return f'<section class="failed" aria-labelledby="failed"><h2 id="failed">Failed</h2><ul>{items}</ul></section>'


def _track(number: int, track: Track, lanes: Sequence[Lane], opened: bool) -> str:
    """The players of a track."""
    name = text(track.name)
    score = f'<span class="score">mean SDR {decibels(_mean(track.sdr.values()), 3)} dB</span>' if track.sdr else ""
    figures = {
        lane.name: f'<span class="sdr">{decibels(track.sdr[lane.instrument], 3)}<span class="unit"> dB</span></span>'
        for lane in lanes
        if lane.kind == "estimate" and lane.instrument in track.sdr
    }
    return f"""
<details class="track" id="track-{number}"{" open" if opened else ""}>
<summary><h3>{name}</h3><span class="length">{clock(track.seconds)}</span>{score}</summary>
{player(track.name, track.seconds, AudioFile(track.mixture).sample_rate, lanes, figures)}
</details>"""
