"""Choose the stems that are written: those of the model, some of them, or one and the mixture without it.

outputs = choose(model_outputs(["vocals"], ["vocals", "other"], "vocals"))    # vocals; other is the mixture without it
for block in select(outputs, separated_blocks, mixture):                      # [outputs, C, n]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown


class OutputError(UserError):
    """A stem that the model does not have."""


@dataclass(frozen=True)
class Output:
    """A stem that is written."""

    name: str
    source: int  # place on the source axis of the separator's blocks
    is_rest: bool = False  # whether it is the mixture without the source


def model_outputs(sources: Sequence[str], instruments: Sequence[str], target: str | None) -> list[Output]:
    """Return the stems that a model gives by default.

    Args:
        sources: names of the separator's stems, in the order of its blocks.
        instruments: all names in the model's config.
        target: the only instrument that the network estimates, if there is one. Of two instruments, the other one is then the
            mixture without the target.
    """
    outputs = [Output(name, place) for place, name in enumerate(sources)]
    if target is not None and list(sources) == [target] and len(instruments) == 2:
        outputs += [Output(name, 0, is_rest=True) for name in instruments if name != target]
    return outputs


def choose(outputs: Sequence[Output], *, stems: Sequence[str] | None = None, two_stems: str | None = None) -> list[Output]:
    """Return the stems that a user names, in the model's order. The case of the names does not matter.

    Args:
        outputs: the model's.
        stems: only these (default: all).
        two_stems: this one, and the mixture without it, which is named `instrumental` for vocals, and no_NAME otherwise
            (default: none).

    Raises OutputError, listing the model's stems, for a name that the model does not have.
    """
    if two_stems is not None:
        chosen = _find(outputs, two_stems)
        rest = "instrumental" if chosen.name.casefold() == "vocals" else f"no_{chosen.name}"
        return [chosen, Output(rest, chosen.source, is_rest=not chosen.is_rest)]
    if stems is not None:
        named = [_find(outputs, name) for name in stems]
        return [output for output in outputs if output in named]
    return list(outputs)


def _find(outputs: Sequence[Output], name: str) -> Output:
    exact = [output for output in outputs if output.name == name]
    found = exact or [output for output in outputs if output.name.casefold() == name.strip().casefold()]
    if len(found) != 1:
        reason = "is no stem of this model" if not found else "means several stems of this model"
        raise OutputError(
            f"{shown(name) or 'an empty name'} {reason}, expected of: {', '.join(output.name for output in outputs)}"
        )
    return found[0]


def select(outputs: Sequence[Output], stems: Iterable[Block], mixture: AudioStream) -> Iterator[Block]:
    """Yield the outputs [outputs, C, n] of a song, in constant memory.

    Args:
        outputs: of the separator.
        stems: the separator's blocks [S, C, n].
        mixture: the song, which is read a second time if an output is the mixture without a stem.
    """
    rest = [place for place, output in enumerate(outputs) if output.is_rest]
    sources = [output.source for output in outputs]
    pieces = _Pieces(mixture.blocks() if rest else iter(()))
    for block in stems:
        chosen = block[sources]
        if rest:
            chosen[rest] = pieces.take(block.shape[-1]) - chosen[rest]
        yield chosen


class _Pieces:
    """Audio in blocks, taken in pieces of other lengths."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self.left: Block = np.empty((0, 0), np.float32)

    def take(self, num_samples: int) -> Block:
        """Return the next samples [C, num_samples]."""
        pieces: list[Block] = []
        while num_samples > 0:
            if self.left.shape[-1] == 0:
                self.left = next(self.blocks)
            pieces.append(self.left[:, :num_samples])
            self.left = self.left[:, pieces[-1].shape[-1] :]
            num_samples -= pieces[-1].shape[-1]
        return np.concatenate(pieces, axis=1) if pieces else self.left[:, :0]
