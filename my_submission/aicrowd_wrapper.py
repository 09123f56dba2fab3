"""The evaluator's entry point: read a song's mixture, separate it with the model, write its four stems.

    wrapper = AIcrowdWrapper("public_dataset", "evaluator_outputs")
    wrapper.separate_music_file("song")    # public_dataset/song/mixture.wav -> evaluator_outputs/song/{bass,...}.wav

The evaluator replaces this file by its own copy. Therefore the model uses nothing from it, and this file has the same names,
folders, files and refusals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from my_submission.src import audio
from my_submission.src.common.errors import UserError
from my_submission.user_config import MySeparationModel


class WrapperError(UserError):
    """A folder that the evaluation needs does not exist or cannot be made."""


class AIcrowdWrapper:
    """Separates the songs of a dataset, one call each.

    Args:
        dataset_dir: holds a folder per song with a mixture.wav; the environment variable AICROWD_DATASET_DIR overrides it.
        predictions_dir: gets a folder per song; AICROWD_PUBLIC_SHARED_DIR, with /predictions appended, overrides it.
        model: separates the songs (default: user_config's MySeparationModel(), as in the evaluator).

    Raises WrapperError if one of the folders does not exist, and the model's own errors.
    """

    def __init__(
        self,
        dataset_dir: str | Path = "./public_dataset/",
        predictions_dir: str | Path = "./evaluator_outputs/",
        model: Any = None,
    ) -> None:
        shared_dir = os.environ.get("AICROWD_PUBLIC_SHARED_DIR")
        self.instruments = ["bass", "drums", "other", "vocals"]
        self.dataset_dir = Path(os.environ.get("AICROWD_DATASET_DIR") or dataset_dir)
        self.predictions_dir = Path(shared_dir) / "predictions" if shared_dir else Path(predictions_dir)
        for folder, role in ((self.dataset_dir, "the dataset"), (self.predictions_dir, "the predictions")):
            if not folder.is_dir():
                raise WrapperError(f"{folder}: no such folder, expected one for {role}; make it, or name another")
        self.model = MySeparationModel() if model is None else model

    def raise_aicrowd_error(self, msg: str) -> NoReturn:
        """Make a message visible in the challenge's log."""
        raise NameError(msg)

    def separate_music_file(self, foldername: str | Path) -> bool:
        """Separate one song: read its mixture.wav [n, C], write a wav file per instrument, return True.

        Raises AudioError for a mixture that cannot be read, NameError for an answer that check_output refuses.
        """
        # The evaluator's copy reads float64. Here float32 is enough: it represents every value of a 16- or 24-bit file, and
        # the model computes in float32 in both cases.
        mixture, sample_rate = audio.read(self.dataset_dir / foldername / "mixture.wav")
        stems, sample_rates = self.model.separate_music_file(mixture, sample_rate)
        self.check_output(stems, sample_rates)
        self.save_prediction(self.predictions_dir / foldername, stems, sample_rates)
        return True

    def check_output(self, stems: Mapping[str, NDArray[Any]], sample_rates: Mapping[str, int]) -> None:
        """Refuse, with NameError, an answer of the model that does not contain exactly the four instruments."""
        for what, answer in (("stems", stems), ("sample rates", sample_rates)):
            if set(answer) != set(self.instruments):
                found = ", ".join(sorted(map(str, answer))) or "none"
                self.raise_aicrowd_error(f"the model gave {what} for {found}; expected {', '.join(self.instruments)}")

    def save_prediction(
        self, prediction_path: str | Path, stems: Mapping[str, NDArray[Any]], sample_rates: Mapping[str, int]
    ) -> None:
        """Write each stem [n, C] as <prediction_path>/<instrument>.wav, 16-bit PCM; samples beyond +-1 are clipped.

        Raises WrapperError or AudioError if that is impossible.
        """
        folder = Path(prediction_path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrapperError(f"{folder}: cannot be made ({error.strerror}), expected a folder for the stems") from error
        for instrument in self.instruments:
            audio.write(folder / f"{instrument}.wav", stems[instrument], sample_rates[instrument])
