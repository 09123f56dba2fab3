"""The page: its numbers, names and files. test_pictures.py tests its pictures, test_report_page.py the page in a browser."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate_locally
from my_submission import user_config
from my_submission.src import report, separate
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.report import lanes as lanes_module
from my_submission.src.report.chart import bar_chart, decibels
from my_submission.src.report.markup import text
from my_submission.src.report.pictures import WAVEFORM_ROWS
from tests.helpers.page import Page, decode
from tests.helpers.paths import GOLDEN

RATE = 44100
ODD = ['<b>&amp; "it\'s" <i>', "100% #1?", "a\nb\tc", "Ünïcode–猫 🎷", "</script><script>boom()"]


def make_track(folder: Path, samples: int = 6000, stems: tuple[str, ...] = INSTRUMENTS) -> Path:
    """Write a track whose mixture is the sum of four noises, and those noises that `stems` names."""
    folder.mkdir(parents=True, exist_ok=True)
    noises = 0.1 * np.random.default_rng(samples).standard_normal((4, samples, 2)) * np.array([0.5, 1, 2, 3])[:, None, None]
    soundfile.write(folder / "mixture.wav", noises.sum(0).clip(-1, 1), RATE)
    for name, noise in zip(INSTRUMENTS, noises, strict=True):
        if name in stems:
            soundfile.write(folder / f"{name}.wav", noise, RATE)
    return folder


def some_song(folder: Path, name: str = "song") -> report.Song:
    """Return a song whose estimates are its references at half their level."""
    make_track(folder)
    for instrument in INSTRUMENTS:
        soundfile.write(folder / f"e_{instrument}.wav", soundfile.read(folder / f"{instrument}.wav")[0] / 2, RATE)
    return report.Song(
        name,
        folder / "mixture.wav",
        estimates={instrument: folder / f"e_{instrument}.wav" for instrument in INSTRUMENTS},
        references={instrument: folder / f"{instrument}.wav" for instrument in INSTRUMENTS},
        sdr=dict.fromkeys(INSTRUMENTS, 10 * np.log10(4)),
        separation_seconds=0.05,
    )


def sdr(reference: Path, estimate: Path) -> float:
    truth, found = soundfile.read(reference)[0], soundfile.read(estimate)[0]
    return 10 * np.log10(((truth**2).sum() + 1e-7) / (((truth - found) ** 2).sum() + 1e-7))


def listing(folder: Path) -> list[str]:
    """Return every file in a folder and below, including hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class QuarterModel:
    """Every instrument is a quarter of the mixture."""

    instruments = INSTRUMENTS

    def separate_music_file(self, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        return dict.fromkeys(INSTRUMENTS, mixture / 4), dict.fromkeys(INSTRUMENTS, sample_rate)


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs evaluate_locally in this process, with QuarterModel."""
    monkeypatch.delenv("AICROWD_DATASET_DIR", raising=False)
    monkeypatch.delenv("AICROWD_PUBLIC_SHARED_DIR", raising=False)
    monkeypatch.setattr(user_config, "MySeparationModel", QuarterModel)
    folders = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    return lambda *more: evaluate_locally.main([*folders, *map(str, more)])


def test_the_numbers_of_an_evaluation_are_those_of_its_files(
    tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    make_track(data / ODD[0])
    make_track(data / "b", 7001)
    make_track(data / "without", 5000, ())
    make_track(data / "partly", 5001, ("bass", "vocals"))
    (data / "broken <one>").mkdir()
    page_path = tmp_path / "a page #1.html"
    assert evaluate("--report", page_path) == 1
    printed = capsys.readouterr().out
    assert f"report: {page_path}" in printed

    page = Page(page_path)
    scores = page.scores()
    song = next(name for name in scores if name.startswith(ODD[0]))
    assert len(scores) == 3  # the mean, and two songs
    for name, rows in ((ODD[0], scores[song]), ("b", next(v for k, v in scores.items() if k.startswith("b ")))):
        ours = [sdr(data / name / f"{stem}.wav", out / name / f"{stem}.wav") for stem in INSTRUMENTS]
        nothing_done = [sdr(data / name / f"{stem}.wav", data / name / "mixture.wav") for stem in INSTRUMENTS]
        for whose, expected in (("this model", ours), ("mixture", nothing_done)):
            np.testing.assert_allclose(rows[whose], [*expected, np.mean(expected)], atol=6e-4)
    for whose in ("this model", "mixture"):
        both = [rows[whose] for name, rows in scores.items() if not name.startswith("Mean over 2 songs")]
        np.testing.assert_allclose(scores["Mean over 2 songs"][whose], np.mean(both, axis=0), atol=1.1e-3)
    lines = dict(line.split(": ") for line in printed.splitlines() if line.startswith(("sdr_", "mean_sdr")))
    assert [float(value) for value in lines.values()] == scores["Mean over 2 songs"]["this model"]
    assert page.rows[0] == ["whose", *INSTRUMENTS, "mean"]
    factor = re.search(r"real-time factor: (\S+) x", printed)[1]
    assert f"Real-time factor{factor} ×" in page.text
    assert "the challenge's limit of 1.57 ×" in page.text
    assert "2 of 5" in page.text
    assert "broken <one>: " in page.text

    assert sorted(page.heads) == sorted([ODD[0], "b", "partly", "without"])
    assert [path for path in page.files() if not path.is_file()] == []
    audio = [path for path in page.files() if path.suffix == ".flac"]
    assert len(audio) == 9 + 9 + 5 + 7
    assert len(page.files()) == 3 * len(audio)
    for lane, path in {"0_mixture": data / "b" / "mixture.wav", "3_drums_estimate": out / "b" / "drums.wav"}.items():
        copy = next(file for file in audio if file.parent.name.endswith("_b") and file.stem == lane)
        assert (soundfile.info(copy).format, soundfile.info(copy).subtype) == ("FLAC", "PCM_16")
        np.testing.assert_allclose(soundfile.read(copy)[0], soundfile.read(path)[0], atol=1.01 / 32768)
    assert not list(tmp_path.rglob("*.partial"))


def test_means_are_shown_only_for_seeds_scored_on_every_song(tmp_path: Path) -> None:
    songs = [some_song(tmp_path / name, name) for name in "ab"]
    seeds = {"seed 0": dict.fromkeys(INSTRUMENTS, 3.0), "seed <1>": dict.fromkeys(INSTRUMENTS, -1.5)}
    only = {"seed 0": seeds["seed 0"]}
    songs = [dataclasses.replace(song, compared=seeds if song.name == "a" else only) for song in songs]
    report.write_page(tmp_path / "page.html", songs, title="x")
    page = Page(tmp_path / "page.html")
    means, first, second = page.scores().values()
    assert list(means) == ["this model", "seed 0", "mixture"]  # the mean of the other seed would be over fewer songs
    assert first["seed <1>"] == [-1.5] * 5
    assert list(second) == ["this model", "seed 0", "mixture"]
    assert "seed 0: bass 3.0, drums 3.0" in page.text  # of the chart's description


def test_names_are_text_everywhere(tmp_path: Path) -> None:
    plain = some_song(tmp_path / "in", "plain")
    report.write_page(tmp_path / "plain.html", [plain], title="plain", facts={"a": "b"}, failed={"c": "d"})
    odd = []
    for name in ODD:
        estimates = dict.fromkeys(ODD, tmp_path / "in" / "e_bass.wav")
        odd.append(report.Song(name, tmp_path / "in" / "mixture.wav", estimates, sdr={}))
    path = tmp_path / ODD[1].join(['"quo<ted>" ', " & ü.html"]).replace("/", "")
    report.write_page(path, odd, title=ODD[0], facts=dict.fromkeys(ODD, ODD[4]), failed=dict.fromkeys(ODD, ODD[0]))
    page = Page(path)
    assert page.tags <= Page(tmp_path / "plain.html").tags  # nothing became markup
    assert page.heads == [ODD[0], ODD[1], repr(ODD[2]), ODD[3], ODD[4]]
    assert all(file.is_file() for file in page.files())
    assert len(page.files()) == 5 * 6 * 3
    assert "\0" not in path.read_text(encoding="utf-8")
    assert text("<>&\"'") == "&lt;&gt;&amp;&quot;&#x27;"
    assert text(b"caf\xe9".decode(errors="surrogateescape")) == "&#x27;caf\\udce9&#x27;"  # a name that is not UTF-8


def test_embedded_files_equal_those_in_the_folder(tmp_path: Path) -> None:
    song = some_song(tmp_path / "in")
    report.write_page(tmp_path / "page.html", [song], title="x")
    in_folder = {file.name: file.read_bytes() for file in Page(tmp_path / "page.html").files()}
    report.write_page(tmp_path / "page.html", [song], title="x", embed=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "page.html"]  # the folder was removed with its page
    page = Page(tmp_path / "page.html")
    assert page.files() == []
    embedded = [source.split(";base64,") for source in page.sources if source != "data:,"]
    assert {kind for kind, _ in embedded} == {"data:audio/flac", "data:image/png"}
    assert sorted(base64.b64decode(data) for _, data in embedded) == sorted(in_folder.values())


def test_files_are_embedded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.page, "PIECE", 3 * 100)
    (tmp_path / "a.png").write_bytes(bytes(range(256)) * 5)
    pieces = list(report.page._data_url(tmp_path / "a.png"))
    assert len(pieces) == 1 + 5
    assert base64.b64decode("".join(pieces[1:])) == bytes(range(256)) * 5


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("where", ["a picture", "the page", "the end"])
def test_a_failure_leaves_the_former_page_whole(
    where: str, embed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = some_song(tmp_path / "in")
    report.write_page(tmp_path / "page.html", [song], title="the former")
    former = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    replace = Path.replace
    at_the_end = lambda path, to: interrupt() if to.name == "page.html" else replace(path, to)  # noqa: E731
    if where == "a picture":
        monkeypatch.setattr(lanes_module.Pictures, "spectrogram", fail)
    elif where == "the page":
        monkeypatch.setattr(report.markup, "page", lambda *_: fail())
    else:
        monkeypatch.setattr(Path, "replace", at_the_end)
    with pytest.raises(KeyboardInterrupt if where == "the end" else UserError) as caught:
        report.write_page(tmp_path / "page.html", [song], title="the new one", embed=embed)
    if where != "the end":
        assert str(caught.value) == f"{tmp_path / 'page.html'}: cannot be written (No space left on device); is the disk full?"
    assert {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)} == former
    monkeypatch.undo()
    report.write_page(tmp_path / "page.html", [song], title="the new one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "page.html", "page_audio"]


def test_the_first_page_that_fails_leaves_nothing(tmp_path: Path) -> None:
    song = some_song(tmp_path / "in")
    whole = song.estimates["other"].read_bytes()
    song.estimates["other"].write_bytes(whole[:2000])
    with pytest.raises(UserError, match=r"e_other.wav: is cut off"):
        report.write_page(tmp_path / "page.html", [song], title="x")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_bad_page_paths_are_refused_before_separating(
    tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    make_track(tmp_path / "data" / "a")
    (tmp_path / "mine_audio").mkdir()
    (tmp_path / "mine_audio" / "song.flac").write_text("precious")
    (tmp_path / "folder.html").mkdir()
    for name, message in (
        ("page.txt", "page.txt: expected the name of an .html file in a folder that exists"),
        ("folder.html", "expected the name of an .html file in a folder that exists"),
        ("new/page.html", "expected the name of an .html file in a folder that exists"),
        ("data/page.html", "lies among the songs of .*data; expected a place elsewhere"),
        ("mine.html", "its audio goes to .*mine_audio, where something else is; move that, or name another page"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate("--report", tmp_path / name)
    with pytest.raises(SystemExit) as left:
        evaluate("--embed")
    assert left.value.code == 2
    assert "--embed puts audio into the page that --report names" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "folder.html", "mine_audio"]
    assert (tmp_path / "mine_audio" / "song.flac").read_text() == "precious"
    assert evaluate("--report", tmp_path / "mine.html", "--embed") == 0  # an embedded page needs no folder
    assert (tmp_path / "mine_audio" / "song.flac").read_text() == "precious"


def test_separate_writes_a_page_without_scores(
    make_song: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    songs = [make_song(tmp_path / "in" / "one.mp3", 0.2), make_song(tmp_path / "in" / "two & three.flac", 0.1, channels=1)]
    (tmp_path / "in" / "bad.wav").write_text("no song")
    options = ["--model", GOLDEN / "separation_A", "--seeds", "0", "--overlap", "1", "--out", tmp_path / "out"]
    run = lambda *more: cli.run(separate.main, [*map(str, [tmp_path / "in", *options, *more])])  # noqa: E731
    assert run("--report", tmp_path / "in" / "page.html") == 2
    assert "lies among the songs" in capsys.readouterr().err
    assert run() == 2  # one of three is bad
    assert run("--report", tmp_path / "page.html") == 2  # the page shows songs of the earlier run too
    captured = capsys.readouterr()
    assert "1 of 3 songs failed" in captured.err
    assert f"report: {tmp_path / 'page.html'}" in captured.out
    page = Page(tmp_path / "page.html")
    assert page.heads == ["one", "two & three"]
    assert page.rows == []
    assert "SDR" not in re.sub(r"(?s)<style.*?</script>", "", page.text)
    assert f"{tmp_path / 'in' / 'bad.wav'}: " in page.text
    audio = [path for path in page.files() if path.suffix == ".flac"]
    assert len(audio) == 2 * 5
    assert all(path.is_file() for path in page.files())
    assert [soundfile.info(path).frames for path in audio[::5]] == [soundfile.info(path).frames for path in songs]
    assert (tmp_path / "out" / "page.html").exists() is False
    assert run("--report", tmp_path / "out" / "page.html") == 2  # nothing below --out is taken for a song
    assert "lies among" not in capsys.readouterr().err


def test_lanes_of_an_instrument_share_their_scales(tmp_path: Path) -> None:
    song = some_song(tmp_path / "in")  # estimates are half the references
    (tmp_path / "files").mkdir()
    lanes = lanes_module.make_lanes(song, tmp_path / "files", "001", lambda: None)
    assert [lane.name for lane in lanes[:3]] == ["mixture", "bass, estimate", "bass, reference"]
    images = {lane.name: decode((tmp_path / "files" / lane.waveform).read_bytes()) > 0 for lane in lanes}
    for instrument in INSTRUMENTS:
        spans = [image.any(axis=1).sum() for name, image in images.items() if name.startswith(instrument)]
        assert spans[0] == pytest.approx(WAVEFORM_ROWS / 2, abs=2)
        assert spans[1] >= WAVEFORM_ROWS - 6  # one of its sides touches the edge


def test_the_bars_are_as_high_as_their_values() -> None:
    chart = bar_chart(["a", "<b>"], {"this": [10.0, 5.0], "that": [-2.5, 0.0]}, ["estimates", "mixture"], "what & why")
    heights = [
        float(value)
        for value in re.findall(r'<rect class="\w+" x="[\d.]+%" width="[\d.]+%" y="[\d.]+" height="([\d.]+)"', chart)
    ]
    assert heights[:2] == [pytest.approx(4 * heights[1], abs=0.2), pytest.approx(heights[1])]
    assert heights[2] == pytest.approx(heights[0] / 2, abs=0.1)
    assert heights[3] == 1  # a line, where there is nothing
    assert "what &amp; why" in chart
    assert "this: a 10.0, &lt;b&gt; 5.0; that: a -2.5" in chart
    assert [decibels(value, 3) for value in (-0.0001, 1.23456, -2)] == ["0.000", "1.235", "−2.000"]
    for values in ([0.0, 0.0], [1e-9, 0.0], [-60.0, -1.0], [59.9, -20.0]):
        tops = re.findall(r' y="([-\d.]+)" height="([\d.]+)"', bar_chart(["a", "b"], {"x": values}, ["estimates"], "x"))
        assert all(float(top) >= 17 and float(top) + float(height) <= 240 for top, height in tops)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = np.array([int(digits[index : index + 2], 16) for index in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_contrast_is_enough_in_light_and_dark() -> None:
    """WCAG 2 asks for 4.5 for text and 3 for graphics."""
    css = (Path(report.markup.HERE) / "page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    ]
    assert len(schemes) == 2
    for colours in schemes:

        def contrast(first: str, second: str) -> float:
            lighter, darker = sorted((luminance(colours[first]), luminance(colours[second])), reverse=True)  # noqa: B023
            return (lighter + 0.05) / (darker + 0.05)

        for ink, ground in itertools.product(("ink", "soft", "warn"), ("paper", "ground", "hover")):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
        for role in ("estimates", "reference"):
            assert contrast(role, "paper") >= 4.5
            assert contrast("pressed-ink", role) >= 4.5
        assert contrast("ink", "line") >= 4.5  # of a pressed Mute
        for bar in ("mixture", "other-0", "other-1", "other-2", "other-3", "focus"):
            assert contrast(bar, "paper") >= 2.7, bar


def test_a_copy_of_the_package_writes_a_page_without_torch(tmp_path: Path, run_python: Callable[..., object]) -> None:
    song = some_song(tmp_path / "in")
    shutil.copytree(
        Path(report.__file__).parents[2], tmp_path / "kit" / "my_submission", ignore=shutil.ignore_patterns("*.ckpt")
    )
    program = f"""
from pathlib import Path
from my_submission.src import report
song = report.Song("song", Path({str(song.mixture)!r}), {{"bass": Path({str(song.mixture)!r})}})
report.write_page("page.html", [song], title="x")
assert report.__file__.startswith({str(tmp_path)!r})
import sys
assert "torch" not in sys.modules
"""
    result = run_python("-c", program, cwd=tmp_path / "kit")
    assert result.returncode == 0, result.stderr
    assert Page(tmp_path / "kit" / "page.html").heads == ["song"]


def test_a_name_that_is_too_long_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(report.ReportError, match="the name is too long"):
        report.check_path(tmp_path / ("n" * 250 + ".html"))
    report.check_path(tmp_path / ("n" * 249 + ".html"))
