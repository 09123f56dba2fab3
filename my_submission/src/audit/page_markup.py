"""The HTML of an audit's page: the stems that are worst, each with its players and a mark. Every name goes through `text`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from my_submission.src.report.chart import decibels
from my_submission.src.report.lanes import Lane
from my_submission.src.report.markup import failed_list, fill_frame, tile
from my_submission.src.report.players import clock, player, text

HOW = (
    "Each stem was separated by itself. What is what its name says comes back as itself; what comes back as another "
    "instrument is what it seems to contain. The score compares a stem with the others of its instrument: below 0 it is best "
    "left out. All players of a stem share one position, and begin where it is worst. Press <b>Solo</b> while it plays, and "
    "the sound switches where it is. Click a picture or the bars to go there. Then say what is to become of the stem, and "
    "save the table: your marks override the scores."
)
MARKS = {"yes": "keep", "no": "drop", "": "undecided"}  # values of the table's column -> words
WORDS = ("seems to contain", "mark")  # columns of a table that hold no figures
TALLEST = 10.0  # score of the tallest bar


@dataclass(frozen=True)
class Suspect:
    """A stem on the page."""

    track: str
    instrument: str
    score: float
    self_sdr: float  # dB
    margin: float  # dB
    worst: tuple[float, float]  # seconds, from and to
    contains: str  # another instrument, or nothing
    windows: Sequence[tuple[float, float, float | None]]  # seconds, from and to; score, None where it is silent
    seconds: float
    sample_rate: int  # Hz
    lanes: Sequence[Lane]
    mark: str  # one of MARKS

    @property
    def name(self) -> str:
        """As it is called on the page."""
        return f"{self.track} / {self.instrument}"


@dataclass(frozen=True)
class Group:
    """The stems of an instrument."""

    instrument: str
    stems: int
    below: int  # the cut
    centre: float | None  # dB of own share that are usual; None where too few stems tell
    spread: float | None


@dataclass(frozen=True)
class Table:
    """The table that is saved with the marks."""

    name: str  # of its file
    pieces: Sequence[str]  # in base64; between one and the next goes the mark of a suspect


def page(
    *,
    title: str,
    suspects: Sequence[Suspect],
    groups: Sequence[Group],
    table: Table,
    failed: Mapping[str, str],
    facts: Mapping[str, object],
) -> str:
    """The whole page; names of files stand between FILE_MARKs."""
    stems, below = sum(group.stems for group in groups), sum(group.below for group in groups)
    tiles = tile("Below 0, best left out", f"{below} <small>of {stems} stems</small>", _by_instrument(groups))
    tiles += tile("On this page", f"{len(suspects)} <small>stems</small>", "the worst of all, the worst first")
    if failed:
        tiles += tile("Not audited", f"{len(failed)} <small>stems</small>", "for the reasons below", warns=True)
    return fill_frame(
        title=title,
        subtitle=f"{stems} stems, each separated by itself",
        above=f'<dl class="tiles">{tiles}</dl>{_lists(suspects, groups)}{failed_list(failed)}',
        how=HOW,
        swap="the stem and what came back as itself",
        tracks="".join(_suspect(number, suspect) for number, suspect in enumerate(suspects, 1)) + _save(table),
        facts=facts,
        scripts=[Path(__file__).with_name("marks.js")],
    )


def _by_instrument(groups: Sequence[Group]) -> str:
    return text(", ".join(f"{group.instrument} {group.below}" for group in groups))


def _lists(suspects: Sequence[Suspect], groups: Sequence[Group]) -> str:
    """Two tables: of the suspects, and of what is usual."""
    rows = "".join(
        f'<tr><th scope="row"><a href="#track-{number}">{text(suspect.name)}</a></th><td>{decibels(suspect.score, 2)}</td>'
        f"<td>{decibels(suspect.self_sdr, 1)}</td><td>{decibels(suspect.margin, 1)}</td><td>{_stretch(suspect)}</td>"
        f'<td class="words">{text(suspect.contains)}</td>'
        f'<td class="words marked" data-of="{number}">{MARKS[suspect.mark]}</td></tr>'
        for number, suspect in enumerate(suspects, 1)
    )
    heads = ("stem", "score", "self-SDR, dB", "margin, dB", "worst at", *WORDS)
    caption = (
        "self-SDR: how well the stem comes back as itself. margin: by how much that is louder than the loudest other output. "
        "Both are low for clean stems, too, where an instrument is hard to tell by itself."
    )
    usual = "".join(
        f'<tr><th scope="row">{text(group.instrument)}</th><td>{group.stems}</td><td>{_level(group.centre)}</td>'
        f"<td>{_level(group.spread)}</td><td>{group.below}</td></tr>"
        for group in groups
    )
    explained = (
        "own share: energy that comes back as itself, over all that comes back as others, where a stem is low; usual is the "
        "median. The score is 2 there, and 1 less for each spread below. – : fewer stems than tell what is usual."
    )
    return (
        f'<section class="scores" aria-labelledby="worst"><h2 id="worst">The worst</h2>{_table(heads, rows, caption)}'
        f'<h2 id="usual">What is usual</h2>'
        f"{_table(('instrument', 'stems', 'own share, dB', 'spread, dB', 'below 0'), usual, explained)}</section>"
    )


def _table(heads: Sequence[str], rows: str, caption: str) -> str:
    """A table that scrolls where it is too wide; rows are markup."""
    columns = "".join(f'<th scope="col"{" class=words" if head in WORDS else ""}>{head}</th>' for head in heads)
    return (
        f'<div class="wide list" role="region" aria-label="Table by {heads[0]}" tabindex="0"><table>'
        f"<caption>{caption}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _level(value: float | None) -> str:
    return "–" if value is None else decibels(value, 1)


def _stretch(suspect: Suspect) -> str:
    return "–".join(map(clock, suspect.worst))


def _suspect(number: int, suspect: Suspect) -> str:
    name = text(suspect.name)
    contains = f"seems to contain <b>{text(suspect.contains)}</b>, " if suspect.contains else ""
    own = suspect.lanes[1].name  # the stem, its own output, another
    figures = {own: f'<span class="sdr">{decibels(suspect.self_sdr, 1)}<span class="unit"> dB</span></span>'}
    choices = "".join(
        f'<label><input type="radio" name="mark-{number}" value="{value}"{checked}>{word}</label>'
        for value, word, checked in ((*choice, " checked" if choice[0] == suspect.mark else "") for choice in MARKS.items())
    )
    players = player(
        suspect.name,
        suspect.seconds,
        suspect.sample_rate,
        suspect.lanes,
        figures,
        begin=suspect.worst[0],
        strip=_strip(suspect),
    )
    return f"""
<details class="track" id="track-{number}"{" open" if number == 1 else ""}>
<summary><h3>{name}</h3><span class="length">{clock(suspect.seconds)}</span><span class="marked" data-of="{number}">\
{MARKS[suspect.mark]}</span><span class="score">score {decibels(suspect.score, 2)}</span></summary>
<div class="about"><p>{contains}worst at {_stretch(suspect)}; comes back as itself at {decibels(suspect.self_sdr, 1)} dB, \
{decibels(abs(suspect.margin), 1)} dB {"over" if suspect.margin >= 0 else "below"} the loudest other</p>
<fieldset class="mark" data-of="{number}"><legend>Mark {name}</legend>{choices}</fieldset></div>
{players}
</details>"""


def _strip(suspect: Suspect) -> str:
    """Bars for the windows' scores, up from the cut or down from it, with the same in words."""
    bars, low = [], []
    for begin, end, score in suspect.windows:
        if score is None:
            continue
        height = max(0.3, min(TALLEST, abs(score)))
        top = TALLEST - height if score >= 0 else TALLEST
        kind = "good" if score >= 0 else "bad"
        place = f'x="{begin + 0.03 * (end - begin):.3f}" width="{0.94 * (end - begin):.3f}" y="{top:.2f}" height="{height:.2f}"'
        bars.append(f'<rect class="{kind}" {place}/>')
        if score < 0:
            low.append(f"{clock(begin)} to {clock(end)} {decibels(score, 1)}")
    heard = len(bars)
    told = f"Score by window: {len(low)} of {heard} below 0" + (f": {'; '.join(low)}" if low else "")
    middle = f'<line x1="0" x2="{suspect.seconds:.3f}" y1="{TALLEST:g}" y2="{TALLEST:g}"/>'
    return f"""
<div class="strip"><div class="label"><span class="who"><b>score</b> by window</span></div>
<div class="pictures"><svg role="img" aria-label="{escape(told)}" viewBox="0 0 {suspect.seconds:.3f} {2 * TALLEST:g}" \
preserveAspectRatio="none">{middle}{"".join(bars)}</svg></div></div>"""


def _save(table: Table) -> str:
    """The bar that counts the marks and saves the table."""
    digest = hashlib.sha256("".join(table.pieces).encode()).hexdigest()[:16]
    pieces = escape(json.dumps(list(table.pieces)))
    return f"""
<div class="marks" data-name="{text(table.name)}" data-digest="{digest}" data-pieces="{pieces}">
<output class="count"></output><button type="button" class="save">Save the table with the marks</button>
</div>"""
