"""The HTML of an audit's page: the worst stems, each with its players and a mark. Every name goes through `text`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from my_submission.src.audit.baseline import Baseline
from my_submission.src.audit.stem_score import StemScore
from my_submission.src.report.chart import decibels
from my_submission.src.report.lanes import Lane
from my_submission.src.report.markup import failed_list, fill_frame, tile
from my_submission.src.report.players import clock, player, text

HOW = (
    "Each stem was separated by itself. A stem that is what its name says comes back as itself; if it comes back as another "
    "instrument, it seems to contain that one. The score compares a stem with the others of its instrument: below 0 it is best "
    "left out. All players of a stem share one position, and begin where it is worst. Press <b>Solo</b> while it plays, and "
    "the sound switches at that place. Click a picture or the bars to go there. Then mark the stem, and save the table: your "
    "marks override the scores."
)
MARKS = {"yes": "keep", "no": "drop", "": "undecided"}  # values of the table's column -> words
WORDS = ("seems to contain", "mark")  # columns of a table that hold no figures
MAX_BAR = 10.0  # score of the tallest bar


@dataclass(frozen=True)
class Suspect:
    """A stem on the page."""

    score: StemScore
    seconds: float
    sample_rate: int  # Hz
    lanes: Sequence[Lane]  # the stem, its own output, another output

    @property
    def name(self) -> str:
        """The stem's name on the page."""
        return f"{self.score.track} / {self.score.instrument}"


@dataclass(frozen=True)
class Group:
    """The stems of an instrument."""

    instrument: str
    baseline: Baseline
    below: int  # number of stems below the cut


@dataclass(frozen=True)
class Table:
    """The table that is saved with the marks."""

    name: str  # of its file
    pieces: Sequence[str]  # in base64; the mark of a suspect goes between two pieces


def page(
    *,
    title: str,
    suspects: Sequence[Suspect],
    groups: Sequence[Group],
    table: Table,
    failed: Mapping[str, str],
    facts: Mapping[str, object],
) -> str:
    """Return the whole page; names of files stand between FILE_MARKs.

    Args:
        title: the heading.
        suspects: the stems to show, the worst first.
        groups: the instruments and their baselines.
        table: the table that the page can save.
        failed: stems that could not be audited or separated: name -> reason.
        facts: the settings, for the end of the page: name -> value.
    """
    stems, below = sum(group.baseline.stems for group in groups), sum(group.below for group in groups)
    tiles = tile("Below 0, best left out", f"{below} <small>of {stems} stems</small>", _by_instrument(groups))
    tiles += tile("On this page", f"{len(suspects)} <small>stems</small>", "the worst of all, the worst first")
    if failed:
        tiles += tile("Not audited", f"{len(failed)} <small>stems</small>", "for the reasons below", warns=True)
    return fill_frame(
        title=title,
        subtitle=f"{stems} stems, each separated by itself",
        above=f'<dl class="tiles">{tiles}</dl>{_lists(suspects, groups)}{failed_list(failed)}',
        how=HOW,
        swap="the stem and its own output",
        tracks="".join(_suspect(number, suspect) for number, suspect in enumerate(suspects, 1)) + _save(table),
        facts=facts,
        scripts=[Path(__file__).with_name("marks.js")],
    )


def _by_instrument(groups: Sequence[Group]) -> str:
    return text(", ".join(f"{group.instrument} {group.below}" for group in groups))


def _lists(suspects: Sequence[Suspect], groups: Sequence[Group]) -> str:
    """Return two tables: the suspects, and the baselines."""
    worst = "".join(_suspect_row(number, suspect) for number, suspect in enumerate(suspects, 1))
    heads = ("stem", "score", "self-SDR, dB", "margin, dB", "worst at", *WORDS)
    caption = (
        "self-SDR: how well the stem comes back as itself. margin: level of its own output above the loudest other output. "
        "Both are also low for clean stems of an instrument that is hard to tell by itself."
    )
    usual = "".join(_group_row(group) for group in groups)
    explained = (
        "own share: energy that comes back as the stem's own instrument, over all that comes back as others; of each stem, the "
        "10th percentile. usual: the median of the stems. The score is 2 there, and 1 less for each spread below. "
        "–: too few stems for a baseline."
    )
    return (
        f'<section class="scores" aria-labelledby="worst"><h2 id="worst">The worst stems</h2>{_table(heads, worst, caption)}'
        f'<h2 id="usual">Baselines</h2>'
        f"{_table(('instrument', 'stems', 'usual own share, dB', 'spread, dB', 'below 0'), usual, explained)}</section>"
    )


def _suspect_row(number: int, suspect: Suspect) -> str:
    score = suspect.score
    return (
        f'<tr><th scope="row"><a href="#track-{number}">{text(suspect.name)}</a></th><td>{_number(score.score, 2)}</td>'
        f"<td>{_number(score.self_sdr)}</td><td>{_number(score.margin_db)}</td><td>{_stretch(score)}</td>"
        f'<td class="words">{text(score.contains)}</td>'
        f'<td class="words marked" data-of="{number}">{MARKS[score.keep]}</td></tr>'
    )


def _group_row(group: Group) -> str:
    baseline = group.baseline
    centre, spread = (baseline.centre, baseline.spread) if baseline.is_reliable else (None, None)
    return (
        f'<tr><th scope="row">{text(group.instrument)}</th><td>{baseline.stems}</td><td>{_number(centre)}</td>'
        f"<td>{_number(spread)}</td><td>{group.below}</td></tr>"
    )


def _table(heads: Sequence[str], rows: str, caption: str) -> str:
    """Return a table that scrolls if it is too wide; `rows` are markup."""
    columns = "".join(f'<th scope="col"{" class=words" if head in WORDS else ""}>{head}</th>' for head in heads)
    return (
        f'<div class="wide list" role="region" aria-label="Table by {heads[0]}" tabindex="0"><table>'
        f"<caption>{caption}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _number(value: float | None, digits: int = 1) -> str:
    """Return a score or a level as text, a dash for none."""
    return "–" if value is None else decibels(value, digits)


def _stretch(score: StemScore) -> str:
    """Return where a stem is worst, as text, a dash for nowhere."""
    return "–" if score.from_s is None or score.to_s is None else f"{clock(score.from_s)}–{clock(score.to_s)}"


def _margin(margin: float | None) -> str:
    """Return in words how the own output compares with the loudest other."""
    return "" if margin is None else f", {_number(abs(margin))} dB {'over' if margin >= 0 else 'below'} the loudest other"


def _suspect(number: int, suspect: Suspect) -> str:
    """Return a stem with its mark and its players; the first one is unfolded."""
    name, score = text(suspect.name), suspect.score
    contains = f"seems to contain <b>{text(score.contains)}</b>, " if score.contains else ""
    own = suspect.lanes[1].name
    figures = {own: f'<span class="sdr">{_number(score.self_sdr)}<span class="unit"> dB</span></span>'}
    choices = "".join(
        f'<label><input type="radio" name="mark-{number}" value="{value}"{checked}>{word}</label>'
        for value, word, checked in ((*choice, " checked" if choice[0] == score.keep else "") for choice in MARKS.items())
    )
    players = player(
        suspect.name,
        suspect.seconds,
        suspect.sample_rate,
        suspect.lanes,
        figures,
        begin=score.from_s or 0.0,
        strip=_strip(suspect),
    )
    return f"""
<details class="track" id="track-{number}"{" open" if number == 1 else ""}>
<summary><h3>{name}</h3><span class="length">{clock(suspect.seconds)}</span><span class="marked" data-of="{number}">\
{MARKS[score.keep]}</span><span class="score">score {_number(score.score, 2)}</span></summary>
<div class="about"><p>{contains}worst at {_stretch(score)}; comes back as itself at {_number(score.self_sdr)} dB\
{_margin(score.margin_db)}</p>
<fieldset class="mark" data-of="{number}"><legend>Mark {name}</legend>{choices}</fieldset></div>
{players}
</details>"""


def _strip(suspect: Suspect) -> str:
    """Return bars for the windows' scores, upwards or downwards from the cut, with the same in words."""
    bars, low = [], []
    for begin, end, score in suspect.score.windows:
        if score is None:
            continue
        height = max(0.3, min(MAX_BAR, abs(score)))
        top = MAX_BAR - height if score >= 0 else MAX_BAR
        kind = "good" if score >= 0 else "bad"
        place = f'x="{begin + 0.03 * (end - begin):.3f}" width="{0.94 * (end - begin):.3f}" y="{top:.2f}" height="{height:.2f}"'
        bars.append(f'<rect class="{kind}" {place}/>')
        if score < 0:
            low.append(f"{clock(begin)} to {clock(end)} {decibels(score, 1)}")
    heard = len(bars)
    told = f"Score by window: {len(low)} of {heard} below 0" + (f": {'; '.join(low)}" if low else "")
    middle = f'<line x1="0" x2="{suspect.seconds:.3f}" y1="{MAX_BAR:g}" y2="{MAX_BAR:g}"/>'
    return f"""
<div class="strip"><div class="label"><span class="who"><b>score</b> by window</span></div>
<div class="pictures"><svg role="img" aria-label="{escape(told)}" viewBox="0 0 {suspect.seconds:.3f} {2 * MAX_BAR:g}" \
preserveAspectRatio="none">{middle}{"".join(bars)}</svg></div></div>"""


def _save(table: Table) -> str:
    """Return the bar that counts the marks and saves the table."""
    digest = hashlib.sha256("".join(table.pieces).encode()).hexdigest()[:16]
    pieces = escape(json.dumps(list(table.pieces)))
    return f"""
<div class="marks" data-name="{text(table.name)}" data-digest="{digest}" data-pieces="{pieces}">
<output class="count"></output><button type="button" class="save">Save the table with the marks</button>
</div>"""
