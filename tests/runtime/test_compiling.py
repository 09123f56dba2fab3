"""Compiled networks: the same stems and steps as uncompiled ones, one graph for all seeds, and clear refusals.

Most tests use a backend that only counts graphs. One test runs Inductor itself, which takes a C++ compiler and about 20 s.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from my_submission.src import separate, train
from my_submission.src.audio.files import AudioArray
from my_submission.src.checkpoint import save_checkpoint
from my_submission.src.common import cli
from my_submission.src.config import load_config
from my_submission.src.model import TFCTDFNet
from my_submission.src.runtime import compiling
from my_submission.src.runtime.compiling import CompilingError, compiled_runner
from my_submission.src.separator import Separator
from my_submission.src.training.distributed import World
from my_submission.src.training.trainer import Trainer, TrainingError
from tests.helpers.paths import GOLDEN
from tests.helpers.training import write_config, write_tracks

CPU = torch.device("cpu")
HOUR = 3600.0


class Backend:
    """Counts the graphs and the batches that go through them, and compiles nothing."""

    def __init__(self) -> None:
        self.graphs = 0
        self.batches: list[int] = []
        self.change: Callable[[Tensor], object] = lambda estimate: None  # applied to every estimate [B, S, 2C, F, L]

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor], **options: Any) -> Callable[..., Any]:
        self.graphs += 1
        self.options = options

        def run(*inputs: Tensor) -> Any:
            (estimate,) = graph.forward(*inputs)
            self.batches.append(len(estimate))
            self.change(estimate)
            return (estimate,)

        return run


@pytest.fixture(autouse=True)
def forget_graphs() -> Iterator[None]:
    """Let each test begin and end with nothing compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an ensemble of three networks that compile quickly; 8 chunks of 1984 samples cover each sample."""
    folder = tmp_path_factory.mktemp("model")
    tree = yaml.safe_load((GOLDEN / "separation_A" / "config.yaml").read_text())
    tree["model"] |= {"num_scales": 1, "num_blocks_per_scale": 1, "num_channels": 4}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    for seed in range(3):
        torch.manual_seed(seed)
        save_checkpoint(TFCTDFNet(load_config(folder / "config.yaml")).state_dict(), folder / f"step1_seed{seed}.ckpt")
    return folder


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Backend()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    monkeypatch.setattr(compiling, "missing_requirement", lambda device: "")  # this backend needs nothing
    return backend


def song(samples: int = 9001) -> AudioArray:
    """Make noise with a silence longer than a chunk."""
    array = 0.1 * np.random.default_rng(0).standard_normal((samples, 2))
    array[3000:7000] = 0
    return AudioArray(array, 44100)


def agreement(estimate: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the level of the reference over the difference, dB."""
    return float(10 * np.log10(np.square(reference).sum() / max(np.square(estimate - reference).sum(), 1e-30)))


def broken(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
    """Fail, as a backend."""
    raise ValueError("no such instruction\nmore of it")


def test_one_graph_of_one_size_serves_all_seeds_and_songs(backend: Backend, folder: Path) -> None:
    separator = Separator(folder, compile=True, batch_size=5)
    assert backend.graphs == 1  # before any audio
    stems = separator.separate_array(song())
    assert agreement(stems, Separator(folder, batch_size=5).separate_array(song())) > 80
    assert not stems[:, 4990:5010].any()
    for member in separator.members().values():
        member.separate_array(song(2000))
    assert backend.graphs == 1
    assert set(backend.batches) == {5}  # 44 chunks at hops of 248 samples are no multiple of 5
    plain = Separator(folder, batch_size=5)
    plain.separate_array(song())
    assert backend.graphs == 1


def test_overflowing_chunks_are_repeated_without_a_graph(backend: Backend, folder: Path) -> None:
    separator = Separator(folder, compile=True, precision="bf16", batch_size=3)
    backend.change = lambda estimate: estimate[0].fill_(torch.inf)  # the first chunk of every batch
    exact = Separator(folder).separate_array(song())
    assert agreement(separator.separate_array(song()), exact) > 20
    assert separator.redone_chunks > 5
    backend.change = lambda estimate: estimate.fill_(torch.inf)  # all chunks
    assert agreement(separator.separate_array(song()), exact) > 80
    assert backend.graphs == 1


def test_a_full_memory_halves_the_batch_and_compiles_once_more(backend: Backend, folder: Path) -> None:
    separator = Separator(folder, compile=True, batch_size=8)

    def crowded(estimate: Tensor) -> None:
        if len(estimate) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    backend.change = crowded
    with pytest.warns(UserWarning, match="out of memory with 8 chunks at a time"):
        stems = separator.separate_array(song())
    assert separator.ensemble.batch_size == 4
    assert agreement(stems, Separator(folder).separate_array(song())) > 80
    assert backend.graphs == 2

    with pytest.warns(UserWarning, match="out of memory with 8 chunks at a time"):
        assert Separator(folder, compile=True, batch_size=8).ensemble.batch_size == 4  # before any audio


def test_the_result_of_a_cuda_graph_survives_its_next_replay(folder: Path, backend: Backend) -> None:
    config = load_config(folder / "config.yaml")
    network = TFCTDFNet(config).eval()
    specs = torch.randn(2, 1, 2 * config.audio.num_channels, config.audio.dim_f, config.audio.dim_t)
    run = compiled_runner(torch.device("cuda"))  # compiles as for CUDA, but runs on the CPU here
    memory: list[Tensor] = []

    def replay(estimate: Tensor) -> None:  # like a CUDA graph, writes every estimate over the last one
        memory.append(memory[0].copy_(estimate) if memory else estimate.clone())
        estimate.set_(memory[0])

    backend.change = replay
    with torch.inference_mode():
        first, second = (run(network, spec, batch_size=1) for spec in specs)
        assert backend.options == {"options": {"triton.cudagraphs": True}}
        for estimate, spec in zip((first, second), specs, strict=True):
            # compiled code has instance norm's own kernel, and rounds otherwise
            torch.testing.assert_close(estimate, network.separate_spec(spec), rtol=0, atol=1e-5)


def test_a_missing_requirement_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # any program that exists
    cuda, mps = torch.device("cuda"), torch.device("mps")
    with pytest.raises(CompilingError, match="--compile needs a CPU or CUDA, but the device is mps; name another"):
        compiled_runner(mps)
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(CompilingError, match=r"Python's headers, found no .*Python.h; install them \(apt-get install python3"):
        compiled_runner(CPU)
    (tmp_path / "Python.h").touch()
    compiled_runner(CPU)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CompilingError, match="--compile needs Triton, found none"):
        compiled_runner(cuda)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: object())
    compiled_runner(cuda)


def test_the_command_refuses_before_any_audio_is_touched(
    make_song: Callable[..., Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    command = [str(make_song(tmp_path / "song.wav")), "--model", str(folder), "--device", "cpu", "--out", str(out)]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cli.run(separate.main, [*command, "--compile", "yes"]) == 2
    assert capsys.readouterr().err == (
        "error: --compile needs a C++ compiler (no-such-compiler), found none; install it (apt-get install g++), name another "
        "in CXX, or leave --compile out\n"
    )
    monkeypatch.setattr(compiling, "missing_requirement", lambda device: "")
    monkeypatch.setattr(compiling, "BACKEND", broken)
    assert cli.run(separate.main, [*command, "--compile", "yes"]) == 2
    said = capsys.readouterr()
    assert said.out.endswith("compiling the network first, which takes 1 to 2 minutes\n")
    assert said.err == "error: the network cannot be compiled here (ValueError: no such instruction); leave --compile out\n"
    assert not out.exists()


MISSING = compiling.missing_requirement(CPU)


@pytest.mark.skipif(bool(MISSING), reason=f"compiling needs {MISSING}")
def test_inductor_gives_the_same_stems(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    separator = Separator(folder, device="cpu", compile=True, batch_size=3)
    stems = separator.separate_array(song())
    assert agreement(stems, Separator(folder, device="cpu").separate_array(song())) > 80
    assert not stems[:, 4990:5010].any()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_compiled_training_steps_equal_uncompiled_ones(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = load_config(write_config(tmp_path / "config.yaml"))
    sources = 0.1 * torch.randn(2, 6, 4, 2, config.audio.chunk_size, generator=torch.Generator().manual_seed(0))
    graphs: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(len(inputs))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(compiling, "BACKEND", counting)
    plain, ours = (Trainer(config, seed=0, device=CPU, precision="fp32", compile=compile) for compile in (False, True))
    for batch in sources:
        expected, result = plain.step(batch), ours.step(batch)
        assert result.loss == pytest.approx(expected.loss, rel=1e-5)
        assert result.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert len(graphs) == 1
    for theirs, whose in (
        (plain.network.state_dict(), ours.network.state_dict()),
        (plain.ema.state_dict(), ours.ema.state_dict()),
    ):
        assert list(theirs) == list(whose)  # so that a run can continue with or without --compile
        for name, value in theirs.items():
            torch.testing.assert_close(whose[name], value, rtol=1e-4, atol=1e-5)

    recomputing = dataclasses.replace(config, training=dataclasses.replace(config.training, activation_checkpointing=True))
    with pytest.raises(TrainingError, match=r"cannot compute activations again \(training.activation_checkpointing\): leave"):
        Trainer(recomputing, seed=0, device=CPU, precision="fp32", compile=True)
    with pytest.raises(TrainingError, match="--compile is for one process, but 2 run"):
        Trainer(config, seed=0, device=CPU, precision="fp32", compile=True, world=World(rank=0, size=2))


def test_the_training_command_compiles_or_gives_the_reason(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "config.yaml", num_steps=2)
    run, data = tmp_path / "run", write_tracks(tmp_path / "data")
    command = ["-c", str(config), "--data_path", str(data), "--model_path", str(run), "--num_workers", "0", "--device", "cpu"]
    monkeypatch.setattr(compiling, "missing_requirement", lambda device: "a C++ compiler")
    assert cli.run(train.main, [*command, "--compile"]) == 2
    assert capsys.readouterr().err.endswith("error: --compile needs a C++ compiler, or leave --compile out\n")
    assert not run.exists()
    monkeypatch.setattr(compiling, "missing_requirement", lambda device: "")
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "BACKEND", broken)
        assert cli.run(train.main, [*command, "--compile"]) == 2
    assert "error: the network cannot be compiled here (ValueError: no such instruction)" in capsys.readouterr().err
    torch._dynamo.reset()
    assert cli.run(train.main, [*command, "--compile"]) == 0
    assert "the next step compiles the network first" in capsys.readouterr().out
    assert (run / "step2_seed0.ckpt").is_file()
    assert backend.graphs == 1
