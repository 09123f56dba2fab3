"""Measure how well the fine mask finds bleeding: does it leave out the bleeding, or only the network's own errors?

    python tests/benchmarks/selectivity.py --clean study/clean --bleeding study/bleeding --model study/runs/bleeding-plain-q1
    python tests/benchmarks/selectivity.py --clean study/clean --bleeding study/bleeding --model demo

As in training, a network separates random mixes of stems with bleeding, and a mask leaves out its largest squared errors. The
clean stems tell how much bleeding is in each sample. A mask that finds no bleeding leaves out the same share of the
bleeding's energy as of the samples; a mask that finds it leaves out a larger share.
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
BATCH = 6  # mixes per batch


def main(argv: Sequence[str]) -> int:
    """Separate random mixes, compare with the clean stems and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=Path, required=True, help="folder of the clean tracks")
    parser.add_argument("--bleeding", type=Path, required=True, help="folder of the same tracks with bleeding")
    parser.add_argument("--model", default="demo", help="demo, A, B or the folder of an ensemble; only seed 0 (default: demo)")
    parser.add_argument("--batches", type=cli.positive, default=30, help=f"batches of {BATCH} mixes (default: 30)")
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
        ["q", "samples left out", "bleeding left out", "network's own errors left out"],
        [[f"{q:g}", *(f"{100 * share:.1f} %" for share in row / whole)] for q, row in zip(QS, sums, strict=True)],
    )
    return 0


def draw(
    rng: np.random.Generator, clean: Path, bleeding: Path, names: Sequence[str], sources: Sequence[str], samples: int
) -> tuple[Tensor, Tensor]:
    """Draw chunks of random stems, at the same places without and with bleeding: two tensors [B, S, C, samples].

    Args:
        rng: draws the tracks and the places.
        clean: folder of the clean tracks.
        bleeding: folder of the tracks with bleeding.
        names: the tracks.
        sources: the stems of each track.
        samples: length of a chunk.
    """
    stems: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in range(BATCH):
        for source in sources:
            stem = Path(names[rng.integers(len(names))]) / f"{source}.wav"
            start = int(rng.integers(AudioFile(clean / stem).num_samples - samples))
            for folder, chunks in zip((clean, bleeding), stems, strict=True):
                chunks.append(torch.from_numpy(AudioFile(folder / stem).read(start, samples)))
    both = [torch.stack(chunks).unflatten(0, (BATCH, len(sources))) for chunks in stems]
    return both[0], both[1]


if __name__ == "__main__":
    sys.exit(cli.run(main))
