"""Print what a model is, without separating a song.

    python -m my_submission inspect MDX23C-8KFFT-InstVoc_HQ.ckpt
    python -m my_submission inspect my_submission/ckpts/demo

DIR_OR_FILE is a folder with a config and checkpoints, a checkpoint, or A, B or demo.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from my_submission.src.common import cli
from my_submission.src.common.text import shown

if TYPE_CHECKING:
    from my_submission.src.separator import Separator


def main(argv: Sequence[str]) -> int:
    """Load the model, print a line for each of its properties, and time a chunk; return the exit status."""
    options = _parse(argv)

    from my_submission.src.separator import Demo, open_model

    separator = open_model(options.model, **cli.ensemble_options(options))
    config = separator.config
    chunk, rate = config.inference_chunk_size, config.audio.sample_rate
    parameters = sum(value.numel() for value in separator.ensemble.networks[0].parameters())
    target = config.training.target_instrument
    facts = {
        "config": shown(str(separator.files.config)),
        "checkpoints": ", ".join(shown(path.name) for path in separator.checkpoints.values()),
        "stems": ", ".join(separator.source_order) + (f" (of {', '.join(config.training.instruments)})" if target else ""),
        "parameters": f"{parameters:,} in each of {len(separator.ensemble.networks)} networks",
        "procedure": config.inference.procedure,
        "chunk": f"{chunk} samples, {chunk / rate:.2f} s at {rate} Hz, {config.audio.num_channels} channels",
        "overlap": f"{separator.overlap}",
    }
    for name, value in facts.items():
        print(f"{name + ':':<13}{value}", flush=True)
    seconds = _seconds_of_a_chunk(separator)
    cost = seconds * separator.overlap / (chunk / rate)
    where = f"{separator.device} in {separator.precision}"
    print(f"{'cost:':<13}{cost:.2f} s of computing for a second of audio, on {where} ({seconds:.2f} s for a chunk)")
    own = separator.folder == Demo.default_folder
    print(f"{'licence:':<13}{'MIT, like this package' if own else 'unknown; ask those who published the checkpoint'}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission inspect", description=__doc__)
    parser.add_argument("model", metavar="DIR_OR_FILE", help="folder with a config and checkpoints, checkpoint, A, B or demo")
    cli.add_ensemble_options(parser)
    return parser.parse_args(argv)


def _seconds_of_a_chunk(separator: Separator) -> float:
    """Return the time that one chunk takes in all networks, after a first one that is not counted."""
    import torch

    config = separator.config
    generator = torch.Generator().manual_seed(0)
    chunk = 0.1 * torch.randn(1, config.audio.num_channels, config.inference_chunk_size, generator=generator)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        separator.ensemble.estimate(chunk).cpu()
        times.append(time.perf_counter() - started)
    return times[-1]
