"""Scores computed from energies, and from the chunks that trainings masked."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from my_submission.src.audit import command as audit
from my_submission.src.audit.from_training import score_tables
from my_submission.src.audit.scoring import Measurement, fit_baseline, score, self_sdr
from my_submission.src.audit.stem_score import StemScore
from my_submission.src.audit.stems import Stem
from my_submission.src.audit.windows import measure
from my_submission.src.common import cli, stem_table
from my_submission.src.common.errors import UserError
from tests.helpers.audit import RATE, BandModel, tone

SOURCES = ["vocals", "bass", "other"]


def measured(
    track: str, instrument: str, shares: list[float], levels: list[float] | None = None, **outputs: float
) -> Measurement:
    """Return a stem whose windows have these own shares (dB) and levels (dB); `outputs` divide the rest."""
    energies = np.zeros((len(shares), 2 + len(SOURCES)))
    others = outputs or {name: 1.0 for name in SOURCES if name != instrument}
    for row, share, level in zip(energies, shares, levels or [0.0] * len(shares), strict=True):
        energy = 10 * 10 ** (level / 10)
        own = energy * 10 ** (share / 10) / (1 + 10 ** (share / 10))
        row[:2] = energy, energy - own
        row[2 + SOURCES.index(instrument)] = own
        for name, part in others.items():
            row[2 + SOURCES.index(name)] = (energy - own) * part / sum(others.values())
    return Measurement(Stem(track, instrument, Path(f"{track}/{instrument}.wav")), 10.0 * len(shares), energies, 10.0)


def by_track(scored: list[StemScore]) -> dict[str, StemScore]:
    return {stem.track: stem for stem in scored}


def test_a_stem_is_compared_with_others_of_its_instrument() -> None:
    rng = np.random.default_rng(0)
    stems = [measured(f"v{i}", "vocals", [12 + x] * 6) for i, x in enumerate(rng.normal(0, 2, 40))]
    stems += [measured(f"b{i}", "bass", [-4 + x] * 6) for i, x in enumerate(rng.normal(0, 1, 40))]
    stems += [measured("bad vocals", "vocals", [2] * 6, bass=1), measured("bad bass", "bass", [-12] * 6, vocals=1)]
    scored, found = score(stems, SOURCES)
    assert {stem.track: stem.contains for stem in scored[:2]} == {"bad bass": "vocals", "bad vocals": "bass"}
    assert found["vocals"].centre == pytest.approx(12, abs=1)
    assert found["bass"].centre == pytest.approx(-4, abs=0.5)  # the network loses most of every bass: this is normal
    assert found["vocals"].spread == pytest.approx(2, abs=0.6)
    assert all(stem.score < -1 for stem in scored[:2])
    assert np.mean([stem.score < 0 for stem in scored[2:]]) < 0.06
    assert np.median([stem.score for stem in scored]) == pytest.approx(2, abs=0.3)


def test_sound_missing_from_the_own_output_lowers_the_score_too() -> None:
    shares = [8 + x for x in np.random.default_rng(3).normal(0, 2, 40)]
    stems = [measured(f"v{i}", "vocals", [share] * 3) for i, share in enumerate(shares)]
    before, usual_before = by_track(score(stems, SOURCES)[0])["v0"], fit_baseline([self_sdr(stem) for stem in stems])
    stems[0].energies[:, 1] = 0.9 * stems[0].energies[:, 0]  # lost: in none of the outputs
    after, usual_after = by_track(score(stems, SOURCES)[0])["v0"], fit_baseline([self_sdr(stem) for stem in stems])
    assert after.self_sdr == pytest.approx(-10 * np.log10(0.9))
    lost = usual_before.score(before.self_sdr) - usual_after.score(after.self_sdr)
    assert before.score - after.score == pytest.approx(lost / 2)
    assert lost > 4


def test_many_wrong_stems_do_not_move_the_cut() -> None:
    rng = np.random.default_rng(1)
    for wrong in (0, 40, 80):  # of 200
        shares = [*rng.normal(10, 2, 200 - wrong), *rng.normal(-8, 3, wrong)]
        scores = by_track(score([measured(str(i), "vocals", [x] * 4) for i, x in enumerate(shares)], SOURCES)[0])
        assert np.mean([scores[str(i)].score < 0 for i in range(200 - wrong)]) < 0.06
        assert all(scores[str(i)].score < 0 for i in range(200 - wrong, 200))


def test_two_groups_are_told_apart_and_a_single_group_is_not_split() -> None:
    rng = np.random.default_rng(2)
    for spread, wrong in ((4.0, 70), (1.5, 110)):  # of 200: a wide group of right stems, and one that is a minority
        right = fit_baseline([*rng.normal(8, spread, 200 - wrong), *rng.normal(-13, 3, wrong)])
        assert right.centre == pytest.approx(8, abs=1)
        assert right.spread == pytest.approx(spread, abs=0.5)
    flagged = []
    for _ in range(25):
        shares = rng.normal(8, 3, 60)  # two normal distributions fit these slightly better, but not by enough
        flagged.append(np.mean([fit_baseline(shares).score(share) < 0 for share in shares]))
    assert np.mean(flagged) < 0.06
    around = [*rng.normal(8, 1, 120), *rng.normal(8, 8, 120)]  # a narrow group within a wide one
    assert fit_baseline(around).spread == pytest.approx(np.quantile(around, 0.84) - np.median(around))


def test_few_stems_are_scored_by_themselves() -> None:
    scored, found = score([measured(f"{share}", "bass", [share]) for share in (-30, -3, 0, 6, 30)], SOURCES)
    assert [stem.score for stem in scored] == pytest.approx([-10, -1, 0, 2, 10])
    assert not found["bass"].is_reliable
    assert fit_baseline([10.0] * 8).is_reliable
    assert fit_baseline([10.0] * 8).spread == 1  # equal stems do not make tiny differences count


def test_the_10th_percentile_decides_and_quiet_windows_do_not_count() -> None:
    clean = measured("clean", "bass", [9.0] * 30)
    one = measured("one", "bass", [9.0] * 12 + [-9.0] + [9.0] * 17)
    stretch = measured("stretch", "bass", [9.0] * 12 + [-9.0] * 4 + [9.0] * 14)
    quiet = measured("quiet", "bass", [9.0] * 12 + [-9.0] * 4 + [9.0] * 14, [0.0] * 12 + [-31.0] * 4 + [0.0] * 14)
    softer = measured("softer", "bass", [9.0] * 12 + [-9.0] * 4 + [9.0] * 14, [0.0] * 12 + [-25.0] * 4 + [0.0] * 14)
    silent = measured("silent", "bass", [9.0] * 30, [-75.0] * 30)
    scored = by_track(score([clean, one, stretch, quiet, softer, silent], SOURCES)[0])
    assert {name: stem.score for name, stem in scored.items()} == pytest.approx(
        {"clean": 3, "one": 3, "stretch": -3, "quiet": 3, "softer": 3, "silent": None}
    )
    assert [(scored[name].from_s, scored[name].to_s) for name in ("stretch", "one", "silent")] == [
        (120, 160),
        (120, 130),
        (None, None),
    ]
    assert [window for window in scored["quiet"].windows if window[2] is None] == [
        (start, start + 10, None) for start in (120, 130, 140, 150)
    ]
    assert scored["silent"].contains == scored["clean"].contains == ""
    assert list(scored)[-1] == "silent"


def test_steady_bleeding_is_found_among_clean_stems() -> None:
    rng = np.random.default_rng(2)
    stems = [measured(f"{i}", "vocals", list(25 + rng.normal(0, 2, 8))) for i in range(20)]
    stems.append(measured("bleeding", "vocals", list(15 + rng.normal(0, 1, 8)), bass=1))
    worst = score(stems, SOURCES)[0][0]
    assert (worst.track, worst.contains) == ("bleeding", "bass")
    assert worst.score < 0 < worst.margin_db


def test_the_contained_instrument_is_judged_against_its_usual_level() -> None:
    """Every bass loses much to other and nothing to vocals, so a little of vocals says more than much of other."""
    stems = [measured(f"b{i}", "bass", [-3.0], other=0.95, vocals=0.05) for i in range(10)]
    stems += [measured(f"v{i}", "vocals", [15.0]) for i in range(10)] + [measured(f"o{i}", "other", [3.0]) for i in range(10)]
    stems.append(measured("both", "bass", [-9.0], other=0.6, vocals=0.4))
    worst = score(stems, SOURCES)[0][0]
    assert (worst.track, worst.contains, worst.loudest) == ("both", "vocals", "other")


class Long:
    """A tone of any length, computed as it is read."""

    name, sample_rate, channels = "long", RATE, 1

    def __init__(self, minutes: int) -> None:
        self.num_samples = minutes * 60 * RATE

    def blocks(self) -> Iterator[np.ndarray]:
        second = tone("bass", 1.0).T.astype(np.float32)
        for _ in range(self.num_samples // RATE):
            yield second


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    model, peaks = BandModel(tmp_path / "model"), []
    for minutes in (1, 8):
        tracemalloc.start()
        energies = measure(model, Long(minutes), own=2, seconds=10.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert energies.shape == (6 * minutes, 6)
        np.testing.assert_allclose(energies[:, 0], 10 * 0.2**2 / 2, rtol=1e-4)  # mean square times seconds
        np.testing.assert_allclose(energies[:, 4], energies[:, 0], rtol=1e-3)
        assert energies[:, [1, 2, 3, 5]].max() < 1e-6
    assert peaks[1] < peaks[0] + 100_000  # the longer audio is 15 MB


def write_masked(path: Path, rows: list[tuple[object, ...]]) -> Path:
    columns = ("track", "instrument", "chunks", "masked")
    stem_table.write(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])
    return path


def test_masked_chunks_of_all_trainings_are_counted_together(tmp_path: Path) -> None:
    usual = [(f"{i}", "bass", 900, 0.6) for i in range(5)]
    rows = [("wrong", "bass", 900, 1.0), ("half", "bass", 90, 0.9), ("twice", "bass", 2, 1.0), ("easy", "bass", 900, 0.2)]
    first = write_masked(tmp_path / "0.csv", [*usual, *rows, ("never", "bass", 0, None), ("wrong", "drums", 100, 0.6)])
    second = write_masked(tmp_path / "1.csv", [*usual, ("half", "bass", 810, 0.7), ("other", "drums", 10, 0.6)])
    scores = {stem.key: stem.score for stem in score_tables([first, second])}
    assert next(iter(scores)) == ("wrong", "bass")
    assert list(scores)[-1] == ("never", "bass")
    assert scores["0", "bass"] == pytest.approx(1)
    assert scores["wrong", "bass"] == pytest.approx(-1, abs=0.02)
    assert scores["half", "bass"] == pytest.approx(1 - (0.72 - 0.6) / 0.2, abs=0.02)  # 900 chunks, 0.72 of them
    assert scores["twice", "bass"] == pytest.approx(1 - (2 * 1 + 5 * 0.6) / 7 / 0.2 + 3, abs=0.02)  # two chunks tell little
    assert scores["easy", "bass"] > 2
    assert scores["wrong", "drums"] == pytest.approx(1)  # compared with its own instrument
    assert scores["never", "bass"] is None


def test_from_training_needs_no_torch(tmp_path: Path, run_python: Callable[..., object]) -> None:
    write_masked(
        tmp_path / "m.csv", [("a,b", "bass", 9, 1.0), ("b", "bass", 9, 0.5), ("c", "bass", 9, 0.5), ("d", "bass", 0, None)]
    )
    program = """
import sys
from my_submission import __main__
assert __main__.main(["audit", "--from-training", *sys.argv[1:2], "--out", sys.argv[2]]) == 0
assert "torch" not in sys.modules
"""
    result = run_python("-c", program, tmp_path / "m.csv", tmp_path / "audit.csv")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "the worst 3 of 3 stems, and their scores:",
        "  a,b/bass: -0.29",
        "  b/bass: 1.00",
        "  c/bass: 1.00",
        "never drawn, no score: d/bass",
        "1 of 3 stems are below 0, and best left out",
        f"table: {tmp_path / 'audit.csv'}",
    ]
    text = (tmp_path / "audit.csv").read_text(encoding="utf-8").splitlines()
    assert text[0] == "track,instrument,score,self_sdr,margin_db,seconds,from_s,to_s,contains,keep"
    assert text[1:] == ['"a,b",bass,-0.285714,,,,,,,', "b,bass,1,,,,,,,", "c,bass,1,,,,,,,", "d,bass,,,,,,,,"]


def test_impossible_tables_of_trainings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for rows, message in (
        ([("a", "bass", "many", 0.5)], "chunks of a/bass is 'many', expected a number of 0 or more"),
        ([("a", "bass", -1, 0.5)], "chunks of a/bass is '-1', expected"),
        ([("a", "bass", 3, 1.5)], "masked of a/bass is '1.5', expected a number from 0 to 1"),
        ([("a", "bass", 3, None)], "masked of a/bass is '', expected a number from 0 to 1"),
        ([("a", "bass", 3, 0.0)], "no chunk was masked, which tells nothing"),
        ([], "no chunk was masked, which tells nothing"),
    ):
        path = write_masked(tmp_path / "m.csv", rows)
        assert cli.run(audit.main, ["--from-training", str(path), "--out", str(tmp_path / "audit.csv")]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match=r"none.csv: cannot be read"):
        audit.main(["--from-training", str(tmp_path / "none.csv"), "--out", str(tmp_path / "audit.csv")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv"]


def test_a_quiet_part_of_another_instrument_in_some_windows_lowers_the_score() -> None:
    """The own share and the self-SDR of the stem stay in their usual range; it differs from itself, and from the others."""
    rng = np.random.default_rng(4)
    stems = [
        measured(f"v{i}", "vocals", list(10 + x + rng.normal(0, 0.5, 12)), other=0.95, bass=0.05)
        for i, x in enumerate(rng.normal(0, 2.5, 60))
    ]
    usual = measured("usual", "vocals", [10.0] * 12, other=0.95, bass=0.05)
    moved = measured("moved", "vocals", [10.0] * 8 + [6.5] * 4, other=0.95, bass=0.05)
    wrong = slice(8, 12)
    others = moved.energies[wrong, 2 + SOURCES.index("bass")] + moved.energies[wrong, 2 + SOURCES.index("other")]
    moved.energies[wrong, 2 + SOURCES.index("bass")], moved.energies[wrong, 2 + SOURCES.index("other")] = (
        0.6 * others,
        0.4 * others,
    )
    found = by_track(score([*stems, usual, moved], SOURCES)[0])
    assert found["usual"].score == pytest.approx(2, abs=0.6)
    assert found["moved"].score < found["usual"].score - 2
    assert found["moved"].self_sdr > found["usual"].self_sdr - 2.5
    assert np.mean([found[f"v{i}"].score < 0 for i in range(60)]) < 0.06


def test_networks_of_several_folds_are_made_comparable() -> None:
    """One of four networks has learned less, so that its stems all come back worse; they are compared with each other."""
    rng = np.random.default_rng(5)
    stems = []
    for fold in range(4):
        for i in range(25):
            share = (-9 if i < 5 else 10) + rng.normal(0, 1.5) - 7 * (fold == 2)
            found = measured(f"{fold} {i}", "vocals", [share] * 5)
            stems.append(Measurement(found.stem, found.seconds, found.energies, found.window, fold))
    scores = by_track(score(stems, SOURCES)[0])
    right = {fold: [scores[f"{fold} {i}"].score for i in range(5, 25)] for fold in range(4)}
    assert abs(np.median(right[2]) - np.median(right[0] + right[1] + right[3])) < 1
    assert np.mean([value < 0 for values in right.values() for value in values]) < 0.06
    assert all(scores[f"{fold} {i}"].score < 0 for fold in range(4) for i in range(5))
