"""The division of tracks into folds, the tracks that hold the same audio, and the networks' offsets."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track
from my_submission.src.audit import AuditError
from my_submission.src.audit.alignment import fold_offsets
from my_submission.src.audit.folds import assign, write_folds
from my_submission.src.audit.same_audio import find_same

RATE = 44100


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=60), st.integers(2, 9), st.integers(0, 5))
@example({"\u00e9", "e\u0301", "0"}, 2, 0)  # two spellings of one name
def test_folds_are_a_balanced_partition_that_depends_on_names_and_seed_alone(names: set[str], folds: int, seed: int) -> None:
    groups = [[name] for name in sorted(names)]
    if folds > len(groups):
        with pytest.raises(AuditError, match="at least one track for each"):
            assign(groups, folds, seed)
        return
    found = assign(groups, folds, seed)
    assert list(found) == sorted(names)
    sizes = Counter(found.values())
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert assign(groups[::-1], folds, seed) == found


def test_a_new_track_moves_few_others() -> None:
    for number in (20, 57, 203, 204):
        for folds in (2, 4, 8):
            names = [[f"song {i}"] for i in range(number)]
            before, after = assign(names, folds, 0), assign([*names, ["new"]], folds, 0)
            assert sum(before[name] != after[name] for (name,) in names) <= folds


def test_copies_stay_together_and_other_seeds_give_other_folds() -> None:
    groups = [["a", "copy of a", "again a"], *([f"song {i}"] for i in range(9))]
    by_seed = [assign(groups, 4, seed) for seed in range(8)]
    for found in by_seed:
        assert found["a"] == found["copy of a"] == found["again a"]
        assert sorted(Counter(found.values()).values()) == [3, 3, 3, 3]
    assert len({tuple(found.values()) for found in by_seed}) > 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=20), st.integers(2, 6))
def test_many_copies_leave_no_fold_empty_and_the_others_balanced(sizes: list[int], folds: int) -> None:
    groups = [[f"{number} {copy}" for copy in range(size)] for number, size in enumerate(sizes)]
    if folds > len(groups):
        return
    found = assign(groups, folds, 0)
    loads = Counter(found.values())
    assert set(loads) == set(range(folds))
    assert all(len({found[name] for name in group}) == 1 for group in groups)
    assert max(loads.values()) <= min(loads.values()) + max(sizes)


def test_the_table_of_folds_names_copies(tmp_path: Path) -> None:
    groups = [["b", "a"], ["c"]]
    write_folds(tmp_path / "folds.csv", groups, {"b": 1, "a": 1, "c": 0})
    with (tmp_path / "folds.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["track", "fold", "same_as"], ["a", "1", "b"], ["b", "1", ""], ["c", "0", ""]]


def write(folder: Path, name: str, stems: dict[str, np.ndarray], suffix: str = "wav", **how: str) -> Track:
    (folder / name).mkdir(parents=True)
    for instrument, sound in stems.items():
        soundfile.write(folder / name / f"{instrument}.{suffix}", sound, RATE, **how)
    return Track(folder / name, {i: AudioFile(folder / name / f"{i}.{suffix}") for i in stems})


def test_copies_are_found_in_other_formats_gains_and_under_other_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    songs = [{name: 0.1 * rng.standard_normal((9000, 2)) for name in ("bass", "drums")} for _ in range(5)]
    silent = np.zeros((9000, 2))
    tracks = [
        write(tmp_path, "song", songs[0], subtype="PCM_24"),
        write(tmp_path, "another", songs[1]),
        write(tmp_path, "flac", songs[0], "flac", subtype="PCM_16"),
        write(tmp_path, "quieter", {name: 0.3 * sound for name, sound in songs[1].items()}),
        write(tmp_path, "swapped", {"bass": songs[0]["drums"], "drums": songs[2]["bass"]}),
        write(tmp_path, "half silent", {"bass": silent, "drums": songs[3]["drums"]}),
        write(tmp_path, "also half silent", {"bass": silent, "drums": songs[4]["drums"]}),
    ]
    expected = [["song", "flac", "swapped"], ["another", "quieter"], ["half silent"], ["also half silent"]]
    assert find_same(tracks) == expected


def test_a_network_that_has_learned_less_gets_an_offset_and_chance_gets_none() -> None:
    rng = np.random.default_rng(0)
    equal, unequal = [], []
    for _ in range(20):
        values = {fold: np.where(rng.random(50) < 0.3, -8, 10) + rng.normal(0, 3, 50) for fold in range(4)}
        equal += np.abs(list(fold_offsets(values).values())).tolist()
        found = fold_offsets({**values, 2: values[2] - 6})
        unequal.append(found[2] - np.mean([found[fold] for fold in (0, 1, 3)]))
    assert np.mean(equal) < 0.3
    assert np.mean(unequal) == pytest.approx(-5, abs=1.5)  # chance is not taken for the network
    assert fold_offsets({0: [1.0] * 9}) == {0: 0.0}
    assert fold_offsets({0: [1.0] * 9, 1: [5.0] * 9, 2: [3.0]})[2] == 0.0
