"""The level of bleeding: known levels are found again, whatever the delay, the low-pass and the pieces that audio comes in."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src import separator
from my_submission.src.audio.files import AudioArray
from my_submission.src.audit import AuditError
from my_submission.src.audit import command as audit
from my_submission.src.audit.bleeding import Sums, measure_levels
from my_submission.src.common import cli
from my_submission.src.corrupt.faults import Fault
from my_submission.src.corrupt.sound import bleed
from my_submission.src.separator import Separator
from tests.helpers.audit import BANDS, BandModel
from tests.helpers.audit import RATE as LOW_RATE
from tests.helpers.paths import GOLDEN

RATE = 22050


def sounds(seconds: float, seed: int = 0) -> np.ndarray:
    """Return four independent noises [4, n] with slow changes of level."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    level = 0.02 + np.abs(np.repeat(rng.standard_normal((4, n // 2000 + 1)), 2000, axis=1)[:, :n])
    return 0.1 * level * rng.standard_normal((4, n))


def with_bleeding(clean: np.ndarray, stem: int, other: int, fault: Fault) -> np.ndarray:
    picked_up = next(bleed(iter([clean[other : other + 1]]), RATE, fault))[0]
    found = clean.copy()
    found[stem] += picked_up[: clean.shape[1]]
    return found


@pytest.mark.parametrize("level", [-25.0, -15.0, -5.0])
def test_known_levels_are_found(level: float) -> None:
    clean = sounds(30)
    for seed, (stem, other) in enumerate([(0, 1), (2, 0), (3, 2)]):
        fault = Fault("bleeding", ("x",), level_db=level, cutoff_hz=3000 + 1000 * seed, delay_ms=2 + 6 * seed)
        stems = with_bleeding(clean, stem, other, fault)
        outputs = clean + 0.1 * sounds(30, seed=9)  # own outputs of a network that errs
        sums = Sums(4, RATE)
        sums.add(np.concatenate([stems, outputs]))
        levels = sums.levels()
        assert levels[stem][other] == pytest.approx(level, abs=1.0)
        others = [levels[i][j] for i in range(4) for j in range(4) if i != j and (i, j) != (stem, other)]
        assert all(value is None or value < -25 for value in others)


def test_a_rest_of_another_stem_in_an_output_does_not_look_like_bleeding() -> None:
    """Network 1 leaves a little of stem 0 in the own output of stem 1; stem 0 holds nothing of stem 1."""
    clean = sounds(30)
    outputs = clean.copy()
    outputs[1] += 0.05 * clean[0]
    sums = Sums(4, RATE)
    sums.add(np.concatenate([clean, outputs]))
    found = sums.levels()[0][1]
    assert found is None or found < -40


def test_pieces_do_not_matter_and_short_or_silent_audio_has_no_level() -> None:
    signals = np.concatenate([sounds(6), sounds(6)])
    whole, pieces, short = Sums(4, RATE), Sums(4, RATE), Sums(4, RATE)
    whole.add(signals)
    for start in range(0, signals.shape[1], 1234):
        pieces.add(signals[:, start : start + 1234])
    assert np.allclose(whole.products, pieces.products)
    short.add(signals[:, :9000])
    assert short.levels() == [[None] * 4] * 4
    signals[[1, 5]] = 0
    silent = Sums(4, RATE)
    silent.add(signals)
    assert [row[1] for row in silent.levels()] == [None] * 4


def test_stems_that_are_separated_at_once_give_what_each_gives_alone() -> None:
    model = Separator(GOLDEN / "separation_A", seeds=[0], overlap=1, device="cpu")
    rng = np.random.default_rng(0)
    stems = {name: AudioArray(0.1 * rng.standard_normal((40000, 2)), 44100, name) for name in model.source_order}
    names, sums = list(stems), Sums(4, 44100)
    outputs = [
        np.concatenate(list(model.separate(stems[name], share_residual=False)), axis=2)[i] for i, name in enumerate(names)
    ]
    sums.add(np.stack([stems[name].array.T.mean(axis=0) for name in names] + [output.mean(axis=0) for output in outputs]))
    expected, found = sums.levels(), measure_levels(model, stems)
    for (stem, other), level in found.items():
        wanted = expected[names.index(stem)][names.index(other)]
        assert (level is None) == (wanted is None)
        assert level is None or level == pytest.approx(wanted, abs=1e-3)
    stems[names[0]] = AudioArray(np.zeros((4000, 2)), 44100)
    with pytest.raises(AuditError, match="differ in length"):
        measure_levels(model, stems)


def band_noise(name: str, seconds: float, seed: int) -> np.ndarray:
    spec = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * LOW_RATE)))
    hertz = np.fft.rfftfreq(round(seconds * LOW_RATE), 1 / LOW_RATE)
    return np.fft.irfft(spec * ((hertz > BANDS[name][0]) & (hertz < BANDS[name][1])))[:, None]


def test_the_command_writes_a_table_that_a_second_run_does_not_measure_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BandModel(tmp_path / "model")
    monkeypatch.setattr(separator, "open_model", lambda name, **options: model)
    for number, track in enumerate(("a", "b")):
        stems = {name: band_noise(name, 20, 10 * number + place) for place, name in enumerate(BANDS)}
        stems["bass"] = stems["bass"] + 0.1 * number * stems["vocals"]
        (tmp_path / "data" / track).mkdir(parents=True)
        for name, stem in stems.items():
            soundfile.write(tmp_path / "data" / track / f"{name}.wav", 0.1 * stem, LOW_RATE, subtype="FLOAT")
    options = ["--data-path", tmp_path / "data", "--model", "bands", "--out", tmp_path / "audit.csv"]

    def run(*more: object) -> int:
        return cli.run(audit.main, [str(word) for word in (*options, "--bleeding", tmp_path / "levels.csv", *more)])

    assert run() == 0
    printed = capsys.readouterr().out
    assert "bass usually holds " in printed
    assert f"levels of bleeding: {tmp_path / 'levels.csv'}" in printed
    with (tmp_path / "levels.csv").open(newline="") as file:
        found = {(row["track"], row["instrument"]): row for row in csv.DictReader(file)}
    assert list(found["a", "bass"]) == ["track", "instrument", *(f"{name}_db" for name in BANDS)]
    assert float(found["b", "bass"]["vocals_db"]) == pytest.approx(-20, abs=0.3)
    assert found["a", "bass"]["vocals_db"] == "" or float(found["a", "bass"]["vocals_db"]) < -40
    assert found["b", "bass"]["bass_db"] == ""
    before = (tmp_path / "levels.csv").read_bytes()
    model.separated.clear()
    assert run() == 0
    assert model.separated == []
    assert (tmp_path / "levels.csv").read_bytes() == before
    (tmp_path / "data" / "a" / "bass.wav").unlink()
    assert run() == 1
    assert "failed: a: lacks bass, and levels need all stems of a track" in capsys.readouterr().err
    (tmp_path / "truth.csv").write_text("track,instrument,wrong\n")
    for path, message in (
        (tmp_path / "truth.csv", "is not replaced, as it is no table of levels"),
        (tmp_path / "audit.csv", "is the table of --out, too"),
        (tmp_path / "levels.txt", "expected the name of a .csv file"),
    ):
        assert run("--bleeding", path) == 2
        assert message in capsys.readouterr().err
