"""Several models as one: each stem is the weighted mean of the models that have it.

    blend = Blend([Separator("runs/A"), Separator("vocals.ckpt")], "vocals=1,2;default=1,1")
    for stems in blend.separate(AudioFile("song.flac")):    # [S, C, n], block by block
        ...

A stem is sum(w * estimate) / sum(w) over the models m that have a stem of this name, in any case, with their weights w. Each
model keeps its procedure, chunk, overlap and seeds, and its rule for the residual, which comes before the mean.

The song is decoded and resampled once. All models read the same blocks, each at its own pace: whichever model has no finished
samples left separates on. So the blocks that wait for the slowest reader span less than the largest batch of chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from my_submission.src import separator
from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audio.outputs import Output, model_outputs
from my_submission.src.audio.resample import there_and_back
from my_submission.src.base_separator import BaseSeparator
from my_submission.src.common.text import shown
from my_submission.src.family.foreign_config import load_any_config
from my_submission.src.family.model_files import find_config
from my_submission.src.family.weights import BlendError, plan
from my_submission.src.runtime.device import precision_advice
from my_submission.src.separator import Separator, level_of


def open_models(models: Sequence[str], weights: str = "", **options: Any) -> Separator | Blend:
    """Open the model that `--model` names, or the blend of several; `options` are those of Separator, for all of them.

    Raises UserError.
    """
    if len(models) > 1 and options.get("config"):
        raise BlendError("--config is of one model, and several are given; put each config next to its checkpoint")
    if weights or len(models) > 1:  # mistakes show before anything is loaded
        stem_names(models, weights, options.get("overrides", ()), options.get("config"))
    opened = [separator.open_model(model, **options) for model in models]
    return opened[0] if len(opened) == 1 else Blend(opened, weights, models)


def stem_names(
    models: Sequence[str], weights: str = "", overrides: Sequence[str] = (), config: str | Path | None = None
) -> list[str]:
    """Return the names of the stems that these models give, from their configs alone; the arguments are those of `open_models`.

    Raises UserError for configs and weights that cannot be used.
    """
    found = [find_config(separator.model_folder(model), config) for model in models]
    return list(plan(models, [load_any_config(path, overrides) for path in found], weights).weights)


def default_outputs(
    models: Sequence[str], weights: str = "", overrides: Sequence[str] = (), config: str | Path | None = None
) -> list[Output]:
    """Return the stems that these models write by default; arguments and errors are those of `stem_names`."""
    order = stem_names(models, weights, overrides, config)
    if len(models) > 1:
        return model_outputs(order, order, None)
    training = load_any_config(find_config(separator.model_folder(models[0]), config), overrides).training
    return model_outputs(order, training.instruments, training.target_instrument)


class Blend(BaseSeparator):
    """Models of one sample rate and number of channels, as one.

    Args:
        models: in the order of the weights. The stems have the first model's order and names; then come those of the others.
        weights: `vocals=2,1;default=1,1`: for each stem a number of 0 or more for each model; `default` is for the other
            stems (default: all 1). A model whose weights are all 0 does not run.
        names: of the models, for messages (default: their folders).

    Raises BlendError for models that do not fit together, and for weights that cannot be used.
    """

    def __init__(self, models: Sequence[Separator], weights: str = "", names: Sequence[str] | None = None) -> None:
        self.models = list(models)
        names = [str(model.folder) for model in models] if names is None else list(names)
        if not models:
            raise BlendError("a blend of no models, expected one or more")
        self.plan = plan(names, [model.config for model in models], weights)
        self.on_progress: Callable[[int], object] = lambda samples: None  # called with samples done, at the models' rate

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of all models, Hz."""
        return self.models[0].sample_rate

    @property
    def num_channels(self) -> int:
        """Return the number of audio channels C of all models."""
        return self.models[0].num_channels

    @property
    def source_order(self) -> list[str]:
        """Return the names of the stems in the order of the source axis S: those of the first model come first."""
        return list(self.plan.weights)

    @property
    def outputs(self) -> list[Output]:
        """Return the stems that are written by default: all."""
        return model_outputs(self.source_order, self.source_order, None)

    @property
    def note(self) -> str:
        """Return the notes of the models."""
        return "; ".join(dict.fromkeys(model.note for model in self.models if model.note))

    @property
    def redone_chunks(self) -> int:
        """Return how many chunks overflowed in half precision and were repeated in float32, over all models."""
        return sum(model.redone_chunks for model in self.models)

    @property
    def precision(self) -> str:
        """Return the precisions of the models."""
        return ", ".join(dict.fromkeys(model.precision for model in self.models))

    def members(self) -> dict[int, BaseSeparator]:
        """Return no members: the seeds of different models are not comparable."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return everything that estimates depend on, in words; see Separator."""
        numbered = enumerate((model.settings() for model in self.models), 1)
        each = {f"model {number}: {key}": value for number, settings in numbered for key, value in settings.items()}
        return {**each, "weights": self.plan.text()}

    def separate(self, mixture: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        """Separate with all models; see BaseSeparator. If a model normalises, the song is read once more for its level."""
        self.refuse_other_channels(mixture)
        shares, mono = self.plan.shares(), mixture.channels == 1
        running = [index for index, share in enumerate(shares) if share.any()]
        normalises = [model.config.inference.normalize for model in self.models]
        level = level_of(mixture) if any(normalises[index] for index in running) else (0.0, 1.0)

        def process(blocks: Iterator[Block]) -> Iterator[Block]:
            streams = [
                self.models[index].separate_blocks(
                    reader, mono=mono, level=level if normalises[index] else (0.0, 1.0), share_residual=share_residual
                )
                for index, reader in zip(running, readers(blocks, len(running)), strict=True)
            ]
            parts = [(self.plan.places[index], shares[index]) for index in running]
            for pieces in in_step(streams):
                total = np.zeros((len(self.source_order), *pieces[0].shape[1:]), np.float32)
                for (places, share), piece in zip(parts, pieces, strict=True):
                    total[places] += share * piece
                self.on_progress(total.shape[-1])
                yield total

        yield from there_and_back(mixture, self.sample_rate, process)


def readers(blocks: Iterable[Block], number: int) -> list[Iterator[Block]]:
    """Return iterators over the same blocks. A block is kept until all have read it."""
    source = iter(blocks)
    waiting: list[deque[Block]] = [deque() for _ in range(number)]

    def read(own: deque[Block]) -> Iterator[Block]:
        while True:
            if not own:
                block = next(source, None)
                if block is None:
                    return
                for queue in waiting:
                    queue.append(block)
                del block  # this frame would keep it
            yield own.popleft()

    return [read(queue) for queue in waiting]


def in_step(streams: Sequence[Iterator[Block]]) -> Iterator[list[Block]]:
    """Cut streams of blocks [..., n], of one length in all, into blocks of the same samples.

    A stream is asked for its next block when all samples of its last one have been yielded.
    """
    pending: list[Block | None] = [None] * len(streams)
    while True:
        for index, stream in enumerate(streams):
            while (block := pending[index]) is None or block.shape[-1] == 0:
                pending[index] = next(stream, None)
                if pending[index] is None:
                    break
        present = [block for block in pending if block is not None]
        if not present:
            return
        assert len(present) == len(streams), "models gave stems of different lengths"
        samples = min(block.shape[-1] for block in present)
        yield [block[..., :samples] for block in present]
        pending = [block[..., samples:] for block in present]


def summary(names: Sequence[str], opened: Separator | Blend) -> list[str]:
    """Return lines that say which seeds, device and precision are used; `names` are those of `--model`."""
    models = opened.models if isinstance(opened, Blend) else [opened]
    lines = [
        f"model {shown(name)}: seeds {_seeds(model)} on {model.device} in {model.precision}, overlap {model.overlap}"
        for name, model in zip(names, models, strict=True)
    ]
    weighted = [f"the mean of {len(models)} models, weighted {opened.plan.text()}"] if isinstance(opened, Blend) else []
    return lines + weighted


def advice(opened: Separator | Blend) -> list[str]:
    """Return lines that say which other precision would be faster here; empty in most cases."""
    models = opened.models if isinstance(opened, Blend) else [opened]
    return [line for line in dict.fromkeys(precision_advice(model.precision, model.device) for model in models) if line]


def facts(names: Sequence[str], opened: Separator | Blend) -> dict[str, object]:
    """Return the facts about the models that a page shows; `names` are those of `--model`."""
    if not isinstance(opened, Blend):
        head = {"the model": names[0], "seeds": _seeds(opened), "overlap": opened.overlap}
        return {**head, "precision": opened.precision, "device": str(opened.device)}
    lines = enumerate(summary(names, opened)[:-1], 1)
    return {**{f"model {number}": line for number, line in lines}, "weights": opened.plan.text()}


def _seeds(model: Separator) -> str:
    return ", ".join(map(str, model.checkpoints))
