"""Several models as one: the mean against its definition, constant memory, the command lines, and refusals in one line."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate_locally
from my_submission.src import separate
from my_submission.src.audio.files import AudioArray, Block
from my_submission.src.audit import command as audit
from my_submission.src.common import cli
from my_submission.src.family.blend import Blend, in_step, open_models, readers, stem_names
from my_submission.src.family.weights import BlendError, plan
from my_submission.src.separator import Separator, open_model
from tests.helpers.paths import GOLDEN

OURS = GOLDEN / "separation_A"  # published: vocals, drums, bass, other
VOCALS = GOLDEN / "group_relu_target"  # published: vocals alone
MSST = GOLDEN / "family" / "two_stems"  # msst: vocals, other
DRUMS = GOLDEN / "family" / "other_chunk"  # msst, longer chunks: kick, snare, toms, hh, cymbals
CHUNK = 1984  # of OURS


def noise(samples: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)


def opened(*folders: Path) -> list[Separator]:
    return [open_model(str(folder), device="cpu") for folder in folders]


def renamed(folder: Path, copy: Path, **audio: int) -> Path:
    """A copy of a model whose stems are spelled in another case, and whose keys of `audio` are changed."""
    shutil.copytree(folder, copy)
    path = next(copy.glob("*.yaml"))
    tree = yaml.safe_load(path.read_text().replace("!!python/tuple", ""))
    tree["training"]["instruments"] = [name.upper() for name in tree["training"]["instruments"]]
    tree["audio"] |= audio
    path.write_text(yaml.safe_dump(tree))
    return copy


def assert_is_mean(blend: Blend, weights: dict[str, list[float]], audio: AudioArray) -> None:
    """Compare a blend with the definition: every model by itself, and the mean by hand; `weights` by lower-case name."""
    total: dict[str, np.ndarray] = {}
    sums: dict[str, float] = {}
    order = []
    for index, model in enumerate(blend.models):
        for name, stem in zip(model.source_order, model.separate_array(audio).astype(np.float64), strict=True):
            weight = weights.get(name.lower(), weights.get("default", [1] * 9))[index]
            total[name.lower()] = total.get(name.lower(), 0) + weight * stem
            sums[name.lower()] = sums.get(name.lower(), 0) + weight
            if name.lower() not in map(str.lower, order):
                order.append(name)
    assert blend.source_order == order
    stems = blend.separate_array(audio)
    for name, stem in zip(order, stems, strict=True):
        expected = total[name.lower()] / sums[name.lower()]
        np.testing.assert_allclose(stem, expected, rtol=0, atol=2e-6 * max(1e-3, np.abs(expected).max()))


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Blend:
    """Three procedures and chunks, stems that some models lack, and names in another case."""
    other_case = renamed(MSST, tmp_path_factory.mktemp("blend") / "two_stems")
    return Blend(opened(OURS, other_case, VOCALS, DRUMS), "Vocals=2,1,4,0;default=1,3,1,0.5")


WEIGHTS = {"vocals": [2, 1, 4, 0], "default": [1, 3, 1, 0.5]}


@pytest.mark.parametrize("samples", [1, 2, 700, CHUNK, 4000, 9001])
def test_the_answer_is_the_weighted_mean(blend: Blend, samples: int) -> None:
    assert_is_mean(blend, WEIGHTS, AudioArray(noise(samples), 44100))


def test_the_stems_stand_in_the_order_of_the_first_model(blend: Blend) -> None:
    assert blend.source_order == ["vocals", "drums", "bass", "other", "kick", "snare", "toms", "hh", "cymbals"]
    assert blend.instruments == sorted(blend.source_order)
    assert Blend([blend.models[1], blend.models[0]]).source_order == ["VOCALS", "OTHER", "drums", "bass"]


@pytest.mark.parametrize(("samples", "channels", "rate"), [(3000, 1, 44100), (1, 1, 44100), (2500, 2, 22050), (9000, 1, 48000)])
def test_mono_and_other_sample_rates(blend: Blend, samples: int, channels: int, rate: int) -> None:
    if rate != 44100:
        pytest.importorskip("soxr")
    audio = AudioArray(noise(samples, channels), rate)
    assert blend.separate_array(audio).shape == (9, samples, channels)
    assert_is_mean(blend, WEIGHTS, audio)


def test_a_stem_of_one_model_is_that_models_to_the_last_bit(blend: Blend) -> None:
    audio = AudioArray(noise(3000), 44100)
    np.testing.assert_array_equal(blend.separate_array(audio)[4:], blend.models[3].separate_array(audio))


def test_without_weights_it_is_the_plain_mean() -> None:
    assert_is_mean(Blend(opened(MSST, OURS)), {}, AudioArray(noise(3000), 44100))


def test_each_model_has_its_own_rule_for_the_residual() -> None:
    blend, audio = Blend(opened(OURS, MSST)), AudioArray(noise(3000), 44100)
    raw = [np.concatenate(list(model.separate(audio, share_residual=False)), axis=2) for model in (*blend.models, blend)]
    np.testing.assert_allclose(raw[2][3], (raw[0][3] + raw[1][1]) / 2, atol=1e-6)
    shared = blend.separate_array(audio)[3].T
    residual = audio.array.T - raw[0].sum(axis=0)
    np.testing.assert_allclose(shared - raw[2][3], residual / 2 / 2, atol=1e-6)  # half of it, in one of two models


def test_a_model_without_weight_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blend, audio = Blend(opened(OURS, MSST), "default=1,0"), AudioArray(noise(3000), 44100)
    monkeypatch.setattr(blend.models[1], "separate_blocks", None)
    np.testing.assert_array_equal(blend.separate_array(audio), blend.models[0].separate_array(audio))


def test_weights_of_any_size_are_relative(blend: Blend) -> None:
    audio = AudioArray(noise(2000), 44100)
    models = blend.models[:2]
    expected = Blend(models, "default=1,2").separate_array(audio)
    for text in ("default=8e307,1.6e308", "default=1e-310,2e-310"):
        np.testing.assert_allclose(Blend(models, text).separate_array(audio), expected, atol=1e-6)


def test_a_normalising_model_gets_the_level_of_the_song(tmp_path: Path) -> None:
    copy = renamed(MSST, tmp_path / "normal")
    path = next(copy.glob("*.yaml"))
    tree = yaml.safe_load(path.read_text())
    tree["inference"]["normalize"] = True
    path.write_text(yaml.safe_dump(tree))
    assert_is_mean(Blend(opened(OURS, copy)), {}, AudioArray(noise(5000) + 0.05, 44100))


def test_the_challenges_call_and_files_work(blend: Blend, tmp_path: Path) -> None:
    array = noise(2000)
    stems, rates = blend.separate_music_file(array, 44100)
    assert list(stems) == list(rates) == blend.instruments
    blend.separate_to_folder(tmp_path, AudioArray(array, 44100), subtype="FLOAT")
    for name in blend.instruments:
        np.testing.assert_array_equal(soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0], stems[name])


def test_the_progress_counts_the_song_once(blend: Blend) -> None:
    done: list[int] = []
    blend.on_progress = done.append
    blend.separate_array(AudioArray(noise(9000), 44100))
    assert sum(done) == 9000
    assert len(done) > 3


def test_settings_tell_blends_apart() -> None:
    models = opened(OURS, MSST)
    assert Blend(models).settings() == Blend(models, "default=1,1").settings()
    others = [Blend(models, "vocals=1,2"), Blend(models[::-1]), Blend(models[:1])]
    assert all(Blend(models).settings() != other.settings() for other in others)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), min_size=1, max_size=4), st.integers(1, 60))
def test_streams_of_other_block_sizes_are_read_in_step(sizes: list[list[int]], samples: int) -> None:
    signal = np.arange(samples, dtype=np.float32)[None]

    def cut(own: list[int], blocks: Iterator[Block]) -> Iterator[Block]:
        whole = np.concatenate(list(blocks), axis=1)
        cuts = np.cumsum(np.resize(own, samples * len(own)))
        yield from np.split(whole, cuts[cuts < samples], axis=1)

    source = (signal[:, place : place + 7] for place in range(0, samples, 7))
    pieces = list(in_step([cut(own, reader) for own, reader in zip(sizes, readers(source, len(sizes)), strict=True)]))
    assert all(np.array_equal(piece, each[0]) for each in pieces for piece in each)
    np.testing.assert_array_equal(np.concatenate([each[0] for each in pieces], axis=1), signal)


class Long:
    """A long song of blocks that are counted while anything holds them."""

    name, sample_rate, channels, block = "long", 44100, 2, 500

    def __init__(self, num_samples: int) -> None:
        self.num_samples, self.alive, self.most, self.read = num_samples, 0, 0, 0

    def blocks(self) -> Iterator[Block]:
        for _ in range(self.num_samples // self.block):
            block = np.full((2, self.block), 0.1, np.float32)
            self.alive, self.read = self.alive + 1, self.read + 1
            self.most = max(self.most, self.alive)
            weakref.finalize(block, self._died)
            yield block
            del block

    def _died(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("folders", [(OURS, MSST, DRUMS), (DRUMS, OURS), (OURS,)])
def test_the_blocks_that_wait_do_not_grow_with_the_song(folders: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    blend = Blend(opened(*folders))
    for model in blend.models:  # networks that cost nothing
        sources = len(model.source_order)
        monkeypatch.setattr(model.ensemble, "estimate", lambda chunks, n=sources: torch.stack([chunks] * n, dim=1))
    most = []
    for num_samples in (100_000, 2_000_000):
        song = Long(num_samples)
        done = 0
        for stems in blend.separate(song):
            done += stems.shape[-1]
            np.testing.assert_allclose(stems[0], 0.1, atol=1e-6)
            # a model reads ahead of its answer by its chunks at most
            ahead = max(m.config.inference_chunk_size * (1 + m.ensemble.batch_size) for m in blend.models)
            assert song.read * song.block <= done + 2 * ahead
        assert done == num_samples
        most.append(song.most)
    longest = max(model.config.inference_chunk_size * (1 + model.ensemble.batch_size) for model in blend.models)
    assert most[1] * Long.block <= 2 * longest
    assert most[1] <= most[0] + 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("vocal=1,1", r"--weights vocal=1,1: no model has this stem, expected vocals, drums, bass, other or default"),
        ("vocals=1", r"--weights vocals=1: holds 1 of them, expected 2: a number for each --model, in their order"),
        ("vocals=1,2,3", "holds 3 of them, expected 2"),
        ("vocals=", "holds 1 of them, expected 2"),
        ("vocals=1,", "'' is not a finite number of 0 or more"),
        ("vocals=1,-1", "--weights vocals=1,-1: '-1' is not a finite number of 0 or more"),
        ("vocals=1,nan", "'nan' is not a finite"),
        ("default=inf,1", "'inf' is not a finite"),
        ("default=1,1e999", "'1e999' is not a finite"),
        ("vocals=1,one", "'one' is not a finite"),
        ("1,1", "--weights 1,1: expected STEM=NUMBER"),
        ("=1,1", "--weights =1,1: expected STEM=NUMBER"),
        ("vocals=1,1;VOCALS=1,2", "--weights VOCALS=1,2: VOCALS is there twice"),
        ("vocals=0,0", r"all weights of vocals are 0; give one above 0 to a model that has it \(.*separation_A, .*two_stems\)"),
        ("drums=0,1", r"all weights of drums are 0; give one above 0 to a model that has it \(.*separation_A\)"),
        ("default=0,1", "all weights of drums are 0"),
    ],
)
def test_weights_are_refused_in_one_line(weights: str, message: str) -> None:
    with pytest.raises(BlendError, match=message) as refusal:
        stem_names([str(OURS), str(MSST)], weights)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "weights",
    ["", " ", ";", "vocals = 1 , 2 ; default=1,1;", "DEFAULT=1,1", "default=0,0;VOCALS=0,1;drums=1,0;bass=1,0;other=2,0"],
)
def test_weights_are_written_in_several_ways(weights: str) -> None:
    assert stem_names([str(OURS), str(MSST)], weights) == ["vocals", "drums", "bass", "other"]


def test_models_that_do_not_fit_are_refused_before_they_are_loaded(tmp_path: Path) -> None:
    rate = renamed(OURS, tmp_path / "rate", sample_rate=48000)
    mono = renamed(OURS, tmp_path / "mono", num_channels=1)
    for path in (*rate.glob("*.ckpt"), *mono.glob("*.ckpt")):
        path.write_text("never read")
    for folder, message in ((rate, "sample rates .*: 44100 Hz, .*: 48000 Hz"), (mono, "numbers of channels .*: 2, .*: 1")):
        with pytest.raises(BlendError, match=f"models of different {message}") as refusal:
            open_models([str(OURS), str(folder)], device="cpu")
        assert "\n" not in str(refusal.value)


def test_two_stems_of_one_model_in_different_case_are_refused() -> None:
    ours, other = opened(OURS)[0].config, opened(MSST)[0].config
    training = type(other.training)
    odd = other.__class__(
        other.audio, other.model, training(**{**vars(other.training), "instruments": ("vocals", "Vocals")}), other.inference
    )
    with pytest.raises(BlendError, match="second: has two stems Vocals, in different case"):
        plan(["first", "second"], [ours, odd], "")


def test_one_model_is_itself() -> None:
    assert isinstance(open_models([str(OURS)], device="cpu"), Separator)
    assert isinstance(open_models([str(OURS)], "vocals=2", device="cpu"), Separator)
    with pytest.raises(BlendError, match="holds 2 of them, expected 1"):
        open_models([str(OURS)], "vocals=2,1", device="cpu")
    with pytest.raises(BlendError, match="--config is of one model"):
        open_models([str(OURS), str(MSST)], config="config.yaml")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process: its exit status, output and errors."""

    def run(main: Callable[..., int], *arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.run(main, [*map(str, arguments)])
        except SystemExit as exit:
            status = int(exit.code or 0)
        return (status, *capsys.readouterr())

    return run


MODELS = ("--model", OURS, "--model", MSST, "--device", "cpu", "--overlap", "2", "--weights", "vocals=1,3;default=2,2")


def test_separate_takes_several_models(run: Run, make_song: Callable[..., Path], tmp_path: Path) -> None:
    song = make_song(tmp_path / "song.wav")
    page = tmp_path / "page.html"
    files = ("--out", tmp_path / "out", "--subtype", "FLOAT", "--report", page)
    status, printed, errors = run(separate.main, song, *MODELS, *files)
    assert (status, errors) == (0, "")
    assert (
        f"model {OURS}: seeds 0, 1, 2 on cpu in fp32, overlap 2\nmodel {MSST}: seeds 0 on cpu in fp32, overlap 2\n" in printed
    )
    weighted = "the mean of 2 models, weighted vocals 1:3, drums 2:-, bass 2:-, other 2:2"
    assert f"{weighted} -> {tmp_path / 'out'}" in printed
    assert "vocals 1:3" in page.read_text()
    models = [open_model(str(folder), device="cpu", overlap=2) for folder in (OURS, MSST)]
    audio = AudioArray(soundfile.read(song, dtype="float32")[0], 44100)
    blend = Blend(models, str(MODELS[-1]))
    for name, stem in zip(blend.source_order, blend.separate_array(audio), strict=True):
        np.testing.assert_array_equal(soundfile.read(tmp_path / "out" / "song" / f"{name}.wav", dtype="float32")[0], stem)
    assert "is done already" in run(separate.main, song, *MODELS, *files)[1]


def test_mistakes_leave_nothing_behind(run: Run, make_song: Callable[..., Path], tmp_path: Path) -> None:
    song, out = make_song(tmp_path / "song.wav"), tmp_path / "out"
    status, _, errors = run(separate.main, song, *MODELS, "--out", out, "--weights", "vocals=1")
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: --weights vocals=1: holds 1 of them, expected 2")
    status, _, errors = run(separate.main, song, *MODELS, "--model", tmp_path / "nowhere", "--out", out)
    assert (status, errors.count("\n")) == (2, 1)
    assert "nowhere: no such model" in errors
    assert not out.exists()


def test_evaluate_locally_takes_several_models(run: Run, make_song: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("mixture", "vocals", "drums", "bass", "other"):
        make_song(tmp_path / "data" / "track" / f"{name}.wav")
    where = ("--data", tmp_path / "data", "--out", tmp_path / "out")
    status, printed, errors = run(evaluate_locally.main, *where, *MODELS)
    assert (status, errors) == (0, "")
    assert "track: " in printed
    status, _, errors = run(evaluate_locally.main, *where, *MODELS, "--each-seed")
    assert (status, errors.count("\n")) == (2, 1)
    assert "is no ensemble of several seeds" in errors
    status, _, errors = run(evaluate_locally.main, *where, "--weights", "vocals=1,1")
    assert status == 2
    assert "--weights weighs the models of --model; name them" in errors
    status, _, errors = run(evaluate_locally.main, *where, *MODELS[2:4], "--model", DRUMS)
    assert status == 2
    assert "the challenge wants exactly" in errors


def test_audit_takes_several_models(run: Run, make_song: Callable[..., Path], tmp_path: Path) -> None:
    for seed, name in enumerate(("vocals", "drums", "bass", "other")):
        make_song(tmp_path / "data" / "track" / f"{name}.wav", seed=seed)
    arguments = ("--data-path", tmp_path / "data", "--out", tmp_path / "audit.csv")
    status, printed, errors = run(audit.main, *arguments, *MODELS)
    assert (status, errors) == (0, "")
    assert "4 stems of 1 track" in printed
    status, printed, _ = run(audit.main, *arguments, *MODELS, "--weights", "vocals=1,1")
    assert "starting again: " in printed
