"""Measure many stems; a journal holds the measurements, so that no stem is measured twice.

with Journal(path, settings) as journal:
    measurements = measure_all(separator, stems, journal, seconds=10, failed={})
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from my_submission.src.audio.files import AudioFile
from my_submission.src.audit.stems import Stem
from my_submission.src.audit.values import Measurement
from my_submission.src.audit.windows import measure
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import escaped

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator


def measure_all(
    separator: BaseSeparator, stems: Sequence[Stem], journal: Journal, seconds: float, failed: dict[str, str], fold: int = 0
) -> list[Measurement]:
    """Measure the stems that the journal does not hold yet; return the measurements of all.

    Args:
        separator: the model.
        stems: the stems to measure.
        journal: gets a line for each stem; its lines are for files by path, size and time of change.
        seconds: length of a window.
        failed: gets the stems that cannot be measured: name -> reason.
        fold: number of the model, if several measure stems of one dataset (default: 0).
    """
    if journal.differences:
        print(f"starting again: {'; '.join(journal.differences)}", flush=True)
    known = {(entry["path"], *entry["file"]): entry for entry in journal.entries}
    states = [file_state(stem.path) for stem in stems]
    done = sum(state in known for state in states)
    if done:
        print(f"going on where the last audit stopped: {done} of {len(stems)} stems are done", flush=True)
    measurements = []
    with tqdm(total=len(stems), initial=done, desc="stems", unit="stem", disable=None) as bar:
        for stem, state in zip(stems, states, strict=True):
            if state not in known:
                try:
                    known[state] = _measure(separator, stem, state, seconds)
                except UserError as error:
                    failed[stem.name] = " ".join(str(error).split())
                    tqdm.write(f"{stem.name}: FAILED: {escaped(failed[stem.name])}")
                else:
                    journal.append(known[state])
                bar.update()
            if state in known:
                entry = known[state]
                measurements.append(Measurement(stem, entry["seconds"], np.array(entry["energies"]), seconds, fold))
    return measurements


def file_state(path: Path) -> tuple[str, int, int]:
    """Return a file's path, size and time of change, which tell whether it was measured as it is now."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _measure(separator: BaseSeparator, stem: Stem, state: tuple[str, int, int], seconds: float) -> dict[str, Any]:
    """Measure a stem; return its line of the journal."""
    file = AudioFile(stem.path)
    with cli.seconds_bar(separator, file.seconds, stem.name, position=1):
        energies = measure(separator, file, separator.source_order.index(stem.instrument), seconds)
    rounded = [[float(f"{value:.6g}") for value in window] for window in energies]
    return {"path": state[0], "file": state[1:], "seconds": file.seconds, "energies": rounded}
