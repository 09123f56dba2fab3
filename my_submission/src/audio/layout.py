"""The places of a song's files below the output folder, as `--filename` sets them.

layout = Layout("{song} ({model})/{stem}", model="A")
layout.files(Path("out/album/song"), ["bass"], "wav")      # {"bass": Path("out/album/song (A)/bass.wav")}
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from my_submission.src.common.errors import UserError

DEFAULT = "{song}/{stem}"
FIELDS = ("song", "stem", "model")


class LayoutError(UserError):
    """A template of file names that cannot be used."""


@dataclass(frozen=True)
class Layout:
    """A template of file names, without suffix. Raises LayoutError."""

    template: str = DEFAULT
    model: str = ""

    def __post_init__(self) -> None:
        expected = f"expected a name such as {DEFAULT}, with the fields {', '.join(f'{{{name}}}' for name in FIELDS)}"
        reason = _fault(self.template)
        if reason:
            raise LayoutError(f"--filename {self.template!a}: {reason}; {expected}")

    def files(self, folder: Path, stems: Iterable[str], container: str) -> dict[str, Path]:
        """Return stem -> file.

        Args:
            folder: the song's folder in the default layout. Its name is the song's, and its parent is where files go.
            stems: names of the stems.
            container: suffix of the files.
        """
        names = {stem: self.template.format(song=folder.name, stem=stem, model=self.model) for stem in stems}
        return {stem: folder.parent / f"{name}.{container}" for stem, name in names.items()}


def _fault(template: str) -> str:
    """Return the reason why a template cannot be used, or nothing."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        return str(error)
    fields = [(field, spec, conversion) for _, field, spec, conversion in parts if field is not None]
    for field, spec, conversion in fields:
        if field not in FIELDS or spec or conversion:
            text = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            return f"has no field {{{text}}}"
    if "stem" not in [field for field, _, _ in fields]:
        return "lacks {stem}, so that all stems would be one file"
    pieces = template.replace("\\", "/").split("/")
    if PurePosixPath(template).is_absolute() or PureWindowsPath(template).drive or PureWindowsPath(template).root:
        return "is absolute; --out names the folder"
    if ".." in pieces or not all(pieces) or not template.isprintable():
        return "has a part that is no name"
    return ""
