"""The separator: agreement with the published procedure, and the cases in which that one failed."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from my_submission.src.audio.files import AudioArray, AudioError, AudioFile, Block
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.config import ConfigError
from my_submission.src.family.blend import advice
from my_submission.src.runtime import device
from my_submission.src.runtime.device import DeviceError
from my_submission.src.separator import ModelA, ModelB, SeparationError, Separator, open_model
from tests.helpers.paths import GOLDEN

FOLDER = GOLDEN / "separation_A"
ENSEMBLE = Separator(FOLDER)  # loaded once; a test that changes it restores it


def noise(samples: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))


def edited(folder: Path, **training: object) -> Path:
    """Change keys in the training section of the folder's config; return the folder."""
    path = folder / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["training"] |= training
    path.write_text(yaml.safe_dump(tree))
    return folder


@pytest.mark.parametrize("samples", [100, 1984, 10007])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_separation_agrees_with_the_original(samples: int, batch_size: int) -> None:
    vectors = np.load(FOLDER / "separation.npz")
    model = ModelA(FOLDER, batch_size=batch_size)
    stems, rates = model.separate_music_file(vectors[f"mixture_{samples}"].astype(np.float64), 44100)
    assert rates == dict.fromkeys(["bass", "drums", "other", "vocals"], 44100)
    assert list(stems) == model.instruments == ["bass", "drums", "other", "vocals"]
    for name, stem in stems.items():
        answer = vectors[f"{name}_{samples}"]
        rms = np.sqrt(np.mean(answer**2))
        assert np.sqrt(np.mean((stem - answer) ** 2)) < 1e-5 * rms
        assert np.abs(stem - answer).max() < 1e-4 * rms


class Cut:
    """Audio that comes in blocks of the given sizes."""

    name, sample_rate, channels = "cut", 44100, 2

    def __init__(self, array: np.ndarray, sizes: list[int]) -> None:
        self.array, self.sizes, self.num_samples = array, sizes, len(array)

    def blocks(self) -> Iterator[Block]:
        cuts = np.cumsum(np.resize(self.sizes, self.num_samples))
        yield from np.split(self.array.T.astype(np.float32), cuts[cuts < self.num_samples], axis=1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 6000), st.integers(1, 9), st.integers(1, 5), st.lists(st.integers(1, 4000), min_size=1, max_size=4))
def test_the_result_depends_on_the_signal_only(samples: int, overlap: int, batch_size: int, sizes: list[int]) -> None:
    separator = Separator(FOLDER, seeds=[1], overlap=overlap, batch_size=batch_size)
    plain = Separator(FOLDER, seeds=[1], overlap=overlap, batch_size=1)
    array = noise(samples)
    stems, reference = separator.separate_array(Cut(array, sizes)), plain.separate_array(AudioArray(array, 44100))
    assert stems.shape == (4, samples, 2)
    np.testing.assert_allclose(stems, reference, atol=1e-5 * np.abs(reference).max())


def test_seeds_are_averaged() -> None:
    array = AudioArray(noise(5000), 44100)
    each = [Separator(FOLDER, seeds=[seed]).separate_array(array) for seed in range(3)]
    together = Separator(FOLDER, seeds=[0, 2]).separate_array(array)
    np.testing.assert_allclose(together, (each[0] + each[2]) / 2, atol=1e-5)
    assert list(Separator(FOLDER, seeds=[2, 0]).checkpoints) == [0, 2]
    with pytest.raises(CheckpointError, match="has no checkpoint of seed 7"):
        Separator(FOLDER, seeds=[7])


def test_half_of_the_residual_goes_to_other() -> None:
    array = noise(3000)
    stems = ENSEMBLE.separate_array(AudioArray(array, 44100))
    blocks = ENSEMBLE.separate(AudioArray(array, 44100), share_residual=False)
    raw = np.concatenate(list(blocks), axis=2).swapaxes(1, 2)  # [S, n, C]
    expected = raw.copy()
    expected[ENSEMBLE.source_order.index("other")] += (array - raw.sum(axis=0)) / 2
    np.testing.assert_allclose(stems, expected, atol=1e-5 * np.abs(raw).max())


def test_no_residual_is_shared_without_other_or_with_a_single_target(small_model: Path) -> None:
    assert ENSEMBLE.residual_shares == [0, 0, 0, 0.5]
    assert Separator(edited(small_model, instruments=["vocals", "drums", "bass", "rest"])).residual_shares == [0] * 4
    for path in small_model.glob("*.ckpt"):
        path.unlink()
    for name in ("config.yaml", "weights.ckpt"):
        shutil.copy(GOLDEN / "group_relu_target" / name, small_model)
    assert Separator(edited(small_model, target_instrument="other")).residual_shares == [0]


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.1, 0.2, 0.3, 0.4]])
def test_with_shares_that_sum_to_one_the_stems_sum_to_the_mixture(small_model: Path, shares: list[float]) -> None:
    truth = np.stack([noise(3000, seed=seed) for seed in range(4)])  # any four signals that sum to the mixture
    mixture = truth.sum(axis=0)
    config = small_model / "config.yaml"
    config.write_text(config.read_text().replace("inference:", f"inference:\n  residual_shares: {shares}"))
    separator = Separator(small_model)
    raw = np.concatenate(list(separator.separate(AudioArray(mixture, 44100), share_residual=False)), axis=2).swapaxes(1, 2)
    stems = separator.separate_array(AudioArray(mixture, 44100))
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1e-5 * np.abs(mixture).max())
    given = np.array(shares)[:, None, None] * (mixture - raw.sum(axis=0))
    np.testing.assert_allclose(stems - raw, given, atol=1e-5 * np.abs(mixture).max())
    if len(set(shares)) == 1:  # projecting onto the estimates that sum to the mixture reduces the error
        assert np.square(stems - truth).sum() < np.square(raw - truth).sum()


def test_a_single_target_and_other_instruments_work() -> None:
    target = Separator(GOLDEN / "group_relu_target")
    assert target.instruments == ["vocals"]
    assert target.separate_array(AudioArray(noise(3000), 44100)).shape == (1, 3000, 2)
    stems, _ = Separator(GOLDEN / "full_band_three_stems").separate_music_file(noise(3000), 44100)
    assert sorted(stems) == ["music", "sfx", "speech"]


def test_silence_skips_the_network_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    array = noise(12_000)
    array[2000:9000] = 0  # wider than a chunk
    stems = ENSEMBLE.separate_array(AudioArray(array, 44100))
    run, chunks = ENSEMBLE.ensemble._estimate_mean, []
    monkeypatch.setattr(
        ENSEMBLE.ensemble, "_estimate_mean", lambda mixture, *how: chunks.append(len(mixture)) or run(mixture, *how)
    )
    np.testing.assert_array_equal(ENSEMBLE.separate_array(AudioArray(array, 44100)), stems)
    assert not stems[:, 4000:7000].any()
    hop = 1984 // 8
    assert 0 < sum(chunks) < -(-(12_000 + 1984 - hop) // hop) - 10

    chunks.clear()
    assert not ENSEMBLE.separate_array(AudioArray(np.zeros((5000, 2)), 44100)).any()
    assert not chunks


def test_mono_is_processed_as_equal_channels_and_returned_as_mono() -> None:
    array = noise(3000, channels=1)
    stereo = ENSEMBLE.separate_array(AudioArray(np.repeat(array, 2, axis=1), 44100))
    mono = ENSEMBLE.separate_array(AudioArray(array, 44100))
    np.testing.assert_allclose(mono, stereo.mean(axis=2, keepdims=True), atol=1e-6)
    stems, _ = ENSEMBLE.separate_music_file(array[:, 0], 44100)
    assert stems["bass"].shape == (3000,)


def test_other_sample_rates_are_kept() -> None:
    pytest.importorskip("soxr")
    for rate, num_samples in ((48000, 7001), (22050, 1), (192000, 1), (8000, 333)):
        stems, rates = ENSEMBLE.separate_music_file(noise(num_samples), rate)
        assert {stem.shape for stem in stems.values()} == {(num_samples, 2)}
        assert set(rates.values()) == {rate}


def test_audio_that_cannot_be_separated_is_refused() -> None:
    with pytest.raises(SeparationError, match="the mixture: has 3 channels, expected 1 or 2"):
        ENSEMBLE.separate_music_file(noise(100, channels=3), 44100)
    with pytest.raises(AudioError, match="holds no audio"):
        ENSEMBLE.separate_music_file(np.zeros((0, 2)), 44100)
    with pytest.raises(AudioError, match="holds NaN or infinite samples"):
        ENSEMBLE.separate_music_file(np.full((100, 2), np.nan), 44100)


def test_bf16_agrees_with_float32() -> None:
    separator = Separator(FOLDER, precision="bf16")
    stems = separator.separate_array(AudioArray(noise(3000), 44100))
    exact = ENSEMBLE.separate_array(AudioArray(noise(3000), 44100))
    error = np.sqrt(np.mean((stems - exact) ** 2) / np.mean(exact**2))
    assert 0 < error < 0.05
    assert separator.redone_chunks == 0


def test_an_estimate_that_overflows_is_repeated_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    separator = Separator(FOLDER, precision="bf16", batch_size=3)
    array = AudioArray(noise(3000), 44100)
    run = separator.ensemble._estimate_mean

    def overflow(mixture: torch.Tensor, precision: str, networks: list) -> torch.Tensor:
        estimates = run(mixture, "fp32", networks)
        if precision == "bf16":
            estimates[0, 1, 0, 5] = torch.inf  # the first chunk of every batch
        return estimates

    monkeypatch.setattr(separator.ensemble, "_estimate_mean", overflow)
    np.testing.assert_allclose(separator.separate_array(array), ENSEMBLE.separate_array(array), atol=1e-5)
    assert separator.redone_chunks == 7  # 20 chunks in batches of 3


def test_an_estimate_that_stays_infinite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    separator = Separator(FOLDER)
    run = separator.ensemble._estimate_mean
    monkeypatch.setattr(separator.ensemble, "_estimate_mean", lambda *how: run(*how) * torch.nan)
    with pytest.raises(SeparationError, match="gave NaN or infinite samples in float32"):
        separator.separate_array(AudioArray(noise(3000), 44100))


def test_out_of_memory_halves_the_batch_and_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    separator = Separator(FOLDER, batch_size=8)
    array, run, room = AudioArray(noise(9000), 44100), separator.ensemble._estimate_mean, 3

    def crowded(mixture: torch.Tensor, *how: object) -> torch.Tensor:
        if len(mixture) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return run(mixture, *how)

    monkeypatch.setattr(separator.ensemble, "_estimate_mean", crowded)
    with pytest.warns(UserWarning) as said:
        stems = separator.separate_array(array)
    assert [str(each.message) for each in said] == ["cpu: out of memory with 8 chunks at a time, going on with fewer"]
    assert separator.ensemble.batch_size == 2
    np.testing.assert_allclose(stems, ENSEMBLE.separate_array(array), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the next song begins with the smaller batch
        separator.separate_array(array)
    room = 0
    with pytest.raises(SeparationError, match=r"out of memory with one chunk at a time"):
        separator.separate_array(array)


def test_progress_counts_every_sample() -> None:
    separator, told = Separator(FOLDER, seeds=[0]), []
    separator.on_progress = told.append
    separator.separate_array(AudioArray(noise(5000), 44100))
    assert sum(told) == 5000
    assert len(told) > 3


def test_a_file_is_separated_into_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", noise(5000), 44100, subtype="FLOAT")
    source = AudioFile(tmp_path / "song.wav")
    assert ENSEMBLE.separate_to_folder(tmp_path / "stems", source, subtype="FLOAT").wait() == 1
    writer = ENSEMBLE.separate_to_folder(tmp_path / "flac", source, container="flac", subtype="PCM_24", wait=False)
    assert writer.wait() == 1
    assert sorted(path.name for path in (tmp_path / "flac").iterdir()) == [f"{name}.flac" for name in ENSEMBLE.instruments]
    expected = ENSEMBLE.separate_array(source)
    for name, stem in zip(ENSEMBLE.source_order, expected, strict=True):
        written, rate = soundfile.read(tmp_path / "stems" / f"{name}.wav", dtype="float32")
        np.testing.assert_array_equal(written, stem)
        assert rate == 44100


def test_models_a_and_b_differ_by_folder_checkpoints_and_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ModelA.leaderboard, ModelB.leaderboard) == ("A", "B")
    assert (ModelA.default_folder.name, ModelB.default_folder.name) == ("modelA", "modelB")
    monkeypatch.setattr(ModelB, "default_folder", tmp_path)
    (tmp_path / "config.yaml").write_bytes((FOLDER / "config.yaml").read_bytes())
    (tmp_path / "step150000_seed1.ckpt").write_bytes((FOLDER / "step100000_seed1.ckpt").read_bytes())
    with pytest.raises(CheckpointError) as caught:
        ModelB()
    assert str(caught.value).startswith(f"{tmp_path}: missing step150000_seed0.ckpt, step150000_seed2.ckpt. Download")
    assert "https://drive.google.com/file/d/1fy3aIAYnDg8WJ35hMsBhVJFLbIbLo8Gv" in str(caught.value)
    assert "python -m my_submission install mdx_AB.zip" in str(caught.value)
    assert list(ModelB(seeds=[1]).checkpoints) == [1]
    with pytest.raises(CheckpointError, match=r"seeds \[3\] asked for, the published ones are \[0, 1, 2\]"):
        ModelB(seeds=[3])


def test_open_model_takes_a_letter_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelA, "default_folder", tmp_path)
    (tmp_path / "config.yaml").write_bytes((FOLDER / "config.yaml").read_bytes())
    with pytest.raises(CheckpointError, match="missing step100000_seed0"):
        open_model("A")
    assert open_model(str(FOLDER), overlap=3).overlap == 3
    with pytest.raises(SeparationError, match="nowhere: no such model, expected A, B, demo or a folder with"):
        open_model("nowhere")


def test_a_hann_window_changes_only_samples_that_chunks_share(small_model: Path) -> None:
    config = small_model / "config.yaml"
    song = AudioArray(np.random.default_rng(0).standard_normal((6000, 2)).astype(np.float32), 44100)
    plain = {overlap: Separator(small_model, overlap=overlap, seeds=[0]).separate_array(song) for overlap in (1, 4)}
    config.write_text(config.read_text().replace("inference:", "inference:\n  window: hann"))
    tapered = {overlap: Separator(small_model, overlap=overlap, seeds=[0]).separate_array(song) for overlap in (1, 4)}
    np.testing.assert_allclose(tapered[1], plain[1], atol=1e-5)
    assert np.abs(tapered[4] - plain[4]).max() > 0.01


def test_the_members_make_up_the_ensemble() -> None:
    separator = Separator(FOLDER)
    song = AudioArray(np.random.default_rng(0).standard_normal((3000, 2)).astype(np.float32), 44100)
    members = separator.members()
    assert list(members) == [0, 1, 2]
    alone = [member.separate_array(song) for member in members.values()]
    np.testing.assert_allclose(np.mean(alone, axis=0), separator.separate_array(song), atol=1e-5)
    assert [list(member.checkpoints) for member in members.values()] == [[0], [1], [2]]
    np.testing.assert_array_equal(alone[1], Separator(FOLDER, seeds=[1]).separate_array(song))


def test_members_share_the_state_of_their_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    separator, told = Separator(FOLDER, batch_size=8), []
    song = AudioArray(noise(9000), 44100)
    member = separator.members()[1]
    alone = member.separate_array(song)
    run = separator.ensemble._estimate_mean

    def crowded(mixture: torch.Tensor, *how: object) -> torch.Tensor:
        if len(mixture) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return run(mixture, *how)

    monkeypatch.setattr(separator.ensemble, "_estimate_mean", crowded)
    member.on_progress = told.append
    assert separator.on_progress == member.on_progress
    with pytest.warns(UserWarning, match="out of memory with 8 chunks at a time"):
        np.testing.assert_allclose(member.separate_array(song), alone, atol=1e-5)
    assert separator.ensemble.batch_size == 4
    assert sum(told) == 9000
    assert (member.instruments, member.source_order) == (separator.instruments, separator.source_order)
    assert (member.sample_rate, member.checkpoints[1]) == (44100, separator.checkpoints[1])


def test_overrides_change_the_config_and_the_settings() -> None:
    separator = Separator(FOLDER, overrides=["inference.window=hann", "inference.num_overlap=3"])
    assert (separator.overlap, separator.config.inference.window) == (3, "hann")
    changed = set(separator.settings().items()) ^ set(Separator(FOLDER).settings().items())
    assert {name for name, _ in changed} == {"overlap", "overrides"}
    assert separator.settings()["overrides"] == "inference.window=hann, inference.num_overlap=3"
    with pytest.raises(ConfigError, match=r"config\.yaml with inference\.windo=hann: .*did you mean inference\.window\?"):
        Separator(FOLDER, overrides=["inference.windo=hann"])


@pytest.mark.parametrize("option", ["overlap", "batch_size"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(SeparationError, match=f"{option} is 0, expected 1 or more"):
        Separator(FOLDER, **{option: 0})
    with pytest.raises(SeparationError, match="overlap is 1985, expected up to the 1984 samples of a chunk"):
        Separator(FOLDER, overlap=1985)


@pytest.mark.parametrize("native", [(), ("_is_amx_tile_supported",), ("_is_avx512_bf16_supported",), ("bf16",), None])
def test_advice_on_the_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch, native: tuple[str] | None) -> None:
    cpu = torch.device("cpu")
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in (native or ()), raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": native == ("bf16",)}, raising=False)
    if native is None:  # a torch that tells nothing
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "get_capabilities"):
            monkeypatch.delattr(torch.cpu, name)
    device.has_native_bf16.cache_clear()
    advice = {precision: device.precision_advice(precision, cpu) for precision in ("fp32", "bf16")}
    device.has_native_bf16.cache_clear()
    assert ("--precision bf16 is faster" in advice["fp32"]) == bool(native)
    assert ("--precision fp32 is several times faster" in advice["bf16"]) == (not native)
    assert device.precision_advice("bf16", torch.device("cuda")) == ""


@pytest.mark.parametrize("native", [False, True])
def test_separate_prints_the_advice(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(device, "has_native_bf16", lambda: native)
    found = {precision: advice(Separator(FOLDER, device="cpu", precision=precision)) for precision in ("auto", "fp32", "bf16")}
    assert [len(lines) for lines in found.values()] == ([1, 1, 0] if native else [0, 0, 1])


def test_devices_and_precisions_are_picked_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [device.pick_precision("auto", where) for where in (cpu, cuda, torch.device("mps"))] == ["fp32", "fp16", "fp32"]
    refused = {
        "fp16": "fp16 is for GPUs",
        "tf32": "tf32 is for CUDA; on cpu, expected fp32 or bf16",
        "int8": "precision is 'int8', expected auto, fp16, bf16, tf32, fp32",
    }
    for name, message in refused.items():
        with pytest.raises(DeviceError, match=message):
            device.pick_precision(name, cpu)
    assert device.pick_precision("tf32", cuda) == "tf32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick_device("auto") == cpu
    for name in ("cuda", "cuda:0", "mps", "xla"):
        with pytest.raises(DeviceError, match=f"device {name} is not available here; this machine has: cpu"):
            device.pick_device(name)
    with pytest.raises(DeviceError, match="device is 'gpu', expected auto, cuda, cuda:N, mps or cpu"):
        device.pick_device("gpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.pick_device("auto") == cuda
    assert device.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="device cuda:2 is not available here; this machine has: cuda, mps, cpu"):
        device.pick_device("cuda:2")


def test_tf32_is_used_only_on_request() -> None:
    def rounded() -> list[bool]:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]

    before, seen = rounded(), {}
    assert before == [False, True]  # PyTorch's defaults: float32 convolutions are computed in TF32
    for precision in device.PRECISIONS:
        with device.tf32_matmul(precision, torch.device("cuda")):
            seen[precision] = rounded()
        with device.autocast_to(precision, torch.device("cpu")):
            assert rounded() == before  # a CPU has no TF32
            half = torch.is_autocast_enabled("cpu")
            assert half == (precision in ("fp16", "bf16"))
        assert rounded() == before
    assert seen.pop("tf32") == [True, True]
    assert set(map(tuple, seen.values())) == {(False, False)}
    with pytest.raises(ZeroDivisionError), device.tf32_matmul("tf32", torch.device("cuda")):
        _ = 1 / 0
    assert rounded() == before


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_half_precision_on_a_gpu_agrees_with_the_original() -> None:
    vectors = np.load(FOLDER / "separation.npz")
    stems, _ = Separator(FOLDER, device="cuda").separate_music_file(vectors["mixture_10007"].astype(np.float64), 44100)
    for name, stem in stems.items():
        answer = vectors[f"{name}_10007"]
        assert np.mean((stem - answer) ** 2) < 1e-4 * np.mean(answer**2)
