"""Print an audit's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from my_submission.src.audit.baseline import Baseline
from my_submission.src.audit.stem_score import StemScore, count_below
from my_submission.src.common.text import some
from my_submission.src.training import DEFAULT_THRESHOLD

PRINTED = 10  # stems


def print_scores(scores: Sequence[StemScore], unscored: str, baselines: Mapping[str, Baseline] | None = None) -> None:
    """Print the worst stems, those without a score (`unscored` says why they have none), baselines, and the total."""
    scored = [(stem.score, stem) for stem in scores if stem.score is not None]
    if scored:
        print(f"the worst {min(PRINTED, len(scored))} of {len(scored)} stems, and their scores:")
    for value, stem in scored[:PRINTED]:
        print(f"  {stem.name}: {value:.2f}{_remarks(stem)}")
    others = [stem.name for stem in scores if stem.score is None]
    if others:
        print(f"{unscored}: {some(others)}")
    for name, baseline in (baselines or {}).items():
        known = f"own share usually {baseline.centre:.1f} dB, spread {baseline.spread:.1f} dB"
        how = known if baseline.is_reliable else "too few stems for a baseline, scored by themselves"
        print(f"{name}: {how}; {count_below(scores, name)} of {baseline.stems} stems are below {DEFAULT_THRESHOLD:g}")
    print(f"{sum(stem.is_below for stem in scores)} of {len(scored)} stems are below {DEFAULT_THRESHOLD:g}, and best left out")


def _remarks(stem: StemScore) -> str:
    """Return in words where a stem is worst, and which other instrument it seems to contain."""
    remarks = ""
    if stem.is_below and stem.from_s is not None:
        remarks += f", worst at {stem.from_s:.0f} to {stem.to_s:.0f} s of {stem.seconds:.0f}"
    return remarks + (f", seems to contain {stem.contains}" if stem.contains else "")
