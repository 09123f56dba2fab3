"""Helpers of the benchmarks: describe the machine, compare two results, find steps, print a table, write the results."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch


def machine(device: torch.device) -> str:
    """Describe the machine: the device, the number of CPU threads and torch's version."""
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = f"CPU ({names[0]})" if names else device.type.upper()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def command() -> str:
    """Return the command line of this benchmark."""
    return shlex.join(["python", f"tests/benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def agreement(estimate: ArrayLike, reference: ArrayLike) -> float:
    """Return the energy of the reference relative to the energy of the difference, in dB."""
    estimate, reference = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    difference = np.square(estimate - reference).sum()
    return float(10 * np.log10(np.square(reference).sum() / max(difference, 1e-30)))


def ranks_of_steps(stems: NDArray[np.float32], places: Iterable[int], around: int = 2000) -> list[float]:
    """Rank the step before each place of stems [S, n, C] among the steps of its neighbourhood, from 0 to 1.

    A step is measured by the second difference: the larger of the two that have both of its samples. Its rank is the share of
    the neighbours that are smaller: evenly spread where nothing is special, near 1 where there is a click. Places near the
    ends and digitally silent neighbourhoods are left out.

    Args:
        stems: [S, n, C].
        places: sample numbers; the step is between a place and the sample before it.
        around: samples on either side that a step is compared with (default: 2000).
    """
    bends = np.abs(np.diff(stems.astype(np.float64), 2, axis=1))
    steps = np.maximum(bends[:, :-1], bends[:, 1:]).swapaxes(1, 2)  # [S, C, n - 3]; the first is the one before sample 2
    ranks = []
    for place in places:
        if around + 2 <= place < steps.shape[-1] - around:
            near = steps[..., place - 2 - around : place - 1 + around]
            smaller = (near < steps[..., place - 2, None]).mean(axis=-1)
            ranks += smaller[near.max(axis=-1) > 0].tolist()
    return ranks


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def write_json(path: Path | None, machine: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Write the rows as JSON with the machine, the command and further facts; write nothing if `path` is None."""
    if path:
        whole = {"machine": machine, "command": command(), **facts, "rows": rows}
        path.write_text(json.dumps(whole, indent=1) + "\n")
