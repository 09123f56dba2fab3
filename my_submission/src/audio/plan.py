"""The songs of a run, and the files that are written for each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from my_submission.src.audio.layout import DEFAULT, Layout
from my_submission.src.audio.outputs import Output
from my_submission.src.audio.songs import Found, Job


@dataclass
class Plan:
    """The songs, and the files that will be written for each."""

    outputs: list[Output]
    layout: Layout
    container: str
    found: Found = field(default_factory=Found)

    def files(self, job: Job) -> dict[str, Path]:
        """Return stem -> file."""
        return self.layout.files(job.folder, [output.name for output in self.outputs], self.container)

    def place(self, job: Job) -> Path:
        """Return the folder that holds the stems of a song."""
        if self.layout.template == DEFAULT:
            return job.folder
        return Path(os.path.commonpath([path.parent for path in self.files(job).values()]))
