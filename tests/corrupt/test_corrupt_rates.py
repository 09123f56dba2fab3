"""The number and kinds of drawn faults agree exactly with the settings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.audio.tracks import Track
from my_submission.src.corrupt import faults
from my_submission.src.corrupt.faults import Settings, draw_faults


def fake_track(number: int, stems: int, silent: int) -> Track:
    """A track whose last stems are silent. It has no files, and only the attributes that drawing faults reads."""
    names = [f"stem{i}" for i in range(stems)]
    sounds = {name: float(i < stems - silent) for i, name in enumerate(names)}
    fakes = {name: SimpleNamespace(sample_rate=44100, blocks=lambda name=name: [np.array([[sounds[name]]])]) for name in names}
    return Track(Path(f"track{number}"), fakes)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 7), st.integers(0, 3)), min_size=1, max_size=12),
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.95, 1.0])),
    st.sampled_from(["labelnoise", "bleeding"]),
    st.integers(0, 2**40),
)
def test_the_number_of_wrong_stems_is_exact(sizes: list[tuple[int, int]], rate: float, kind: str, seed: int) -> None:
    tracks = [fake_track(number, stems, min(silent, stems - 2)) for number, (stems, silent) in enumerate(sizes)]
    count = 0
    for track, drawn in zip(tracks, draw_faults(tracks, Settings(kind, rate, seed)), strict=True):
        rows = {name: fault.row(track.name, name, 1.0) for name, fault in drawn.items()}
        count += sum(row["wrong"] == "yes" for row in rows.values())
        assert set(drawn) <= set(track.stems)
        losers = []
        for name, fault in drawn.items():
            assert fault.kind in (["bleeding"] if kind == "bleeding" else ["swap", "add", "move", "moved-away"])
            assert set(fault.others) <= set(track.sounding) - {name}  # only stems that sound are added
            assert fault.kind == "bleeding" or len(fault.others) == (fault.kind != "moved-away")
            if fault.kind == "swap":
                assert drawn[fault.others[0]] == faults.Fault("swap", (name,))
            if fault.kind == "move":
                assert drawn[fault.others[0]].kind == "moved-away"
                losers.append(fault.others[0])
        assert sorted(losers) == sorted(name for name, fault in drawn.items() if fault.kind == "moved-away")
    assert count == round(rate * sum(len(track.stems) for track in tracks))


def test_kinds_are_drawn_evenly_and_at_a_rate_of_1_nearly_all_are_swaps() -> None:
    tracks = [fake_track(number, 4, 0) for number in range(300)]
    kinds = Counter(fault.kind for drawn in draw_faults(tracks, Settings("labelnoise", 0.1, 0)) for fault in drawn.values())
    assert min(kinds["swap"] / 2, kinds["add"], kinds["move"]) > 20
    assert kinds["moved-away"] == kinds["move"]
    odd = [fake_track(number, 5, 0) for number in range(20)]
    kinds = Counter(fault.kind for drawn in draw_faults(odd, Settings("labelnoise", 1.0, 0)) for fault in drawn.values())
    assert kinds == {"swap": 80, "add": 20}


def test_the_parameters_of_bleeding_fill_their_ranges() -> None:
    tracks = [fake_track(number, 4, 0) for number in range(100)]
    drawn = draw_faults(tracks, Settings("bleeding", 1.0, 3, (-12.0, -6.0)))
    for name, low, high in (("level_db", -12, -6), ("cutoff_hz", 2000, 8000), ("delay_ms", 1 - 1e-2, 15 + 1e-2)):
        values = [getattr(fault, name) for of_track in drawn for fault in of_track.values()]
        assert len(values) == 400
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high >= max(values) > high - 0.1 * (high - low)
        assert len(set(values)) > 200
