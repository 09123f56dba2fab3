"""What the fine mask leaves out of data with bleeding: the bleeding, or what the network cannot do yet?

    python tests/benchmarks/selectivity.py --clean study/clean --bleeding study/bleeding --model study/runs/bleeding-plain-q1
    python tests/benchmarks/selectivity.py --clean study/clean --bleeding study/bleeding --model demo

A network separates mixtures of stems with bleeding, as training makes them, and its squared errors are masked as training
masks them. Since the clean stems are known, so is the bleeding in every sample. A mask that knew nothing would leave out as
much of the bleeding's energy as of the samples; one that knew all would leave out the samples that have most of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measuring import print_table  # noqa: E402
from torch import Tensor  # noqa: E402

from my_submission.src.audio.files import AudioFile  # noqa: E402
from my_submission.src.audio.tracks import track_folders  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.loss import quantile, squared_errors  # noqa: E402
from my_submission.src.separator import open_model  # noqa: E402

QS = (0.8, 0.9, 0.93, 0.95, 0.99)
BATCH = 6  # songs for each instrument


def main(argv: Sequence[str]) -> int:
    """Separate, compare, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=Path, required=True, help="folder of tracks")
    parser.add_argument("--bleeding", type=Path, required=True, help="the same tracks, corrupted")
    parser.add_argument("--model", default="demo", help="of which the first seed is taken")
    parser.add_argument("--batches", type=cli.positive, default=30, help=f"of {BATCH} mixtures")
    options = parser.parse_args(argv)
    model = open_model(options.model, device="cpu", seeds=[0])
    network, names = model.ensemble.networks[0], [folder.name for folder in track_folders(options.bleeding)]
    rng, sums = np.random.default_rng(0), np.zeros((len(QS), 3))
    whole = np.zeros(3)
    for _ in range(options.batches):
        clean, bled = draw(rng, options.clean, options.bleeding, names, model.source_order, model.config.audio.chunk_size)
        with torch.inference_mode():
            estimate = network(bled.sum(dim=1))
        error = squared_errors(estimate, bled, mask="fine")  # [S, N]: what training sees
        parts = (
            torch.ones_like(error),
            squared_errors(bled, clean, mask="fine"),
            squared_errors(estimate, clean, mask="fine"),
        )
        whole += [float(part.sum()) for part in parts]
        for row, q in zip(sums, QS, strict=True):
            left_out = error >= quantile(error, q)[0][:, None]
            row += [float(part[left_out].sum()) for part in parts]
    print(f"{options.model}: the bleeding has {100 * whole[1] / whole[2]:.0f} % of the energy of the network's own errors")
    print_table(
        ["q", "left out: of the samples", "of the bleeding", "of the network's own errors"],
        [[f"{q:g}", *(f"{100 * share:.1f} %" for share in row / whole)] for q, row in zip(QS, sums, strict=True)],
    )
    return 0


def draw(
    rng: np.random.Generator, clean: Path, bleeding: Path, names: Sequence[str], sources: Sequence[str], samples: int
) -> tuple[Tensor, Tensor]:
    """The same stems of random songs, without and with their bleeding: twice [B, S, C, samples]."""
    stems: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in range(BATCH):
        for source in sources:
            stem = Path(names[rng.integers(len(names))]) / f"{source}.wav"
            start = int(rng.integers(AudioFile(clean / stem).num_samples - samples))
            for folder, chunks in zip((clean, bleeding), stems, strict=True):
                chunks.append(torch.from_numpy(AudioFile(folder / stem).chunk(start, samples)))
    both = [torch.stack(chunks).unflatten(0, (BATCH, len(sources))) for chunks in stems]
    return both[0], both[1]


if __name__ == "__main__":
    sys.exit(cli.run(main))
