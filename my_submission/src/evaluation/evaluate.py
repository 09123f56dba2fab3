"""Separate a dataset as the evaluator does, score and time every track, and continue after an interruption.

    data, predictions, model = Path("songs"), Path("predictions"), open_model("A")
    wrapper = AIcrowdWrapper(data, predictions, model=model)
    with Journal(predictions / JOURNAL, settings_of_run(data, model)) as journal:
        results, failed = evaluate(wrapper, track_names(data, predictions), journal)
        print_report(results, failed)
        if not failed:
            journal.finish()

Every folder of the dataset is a track: a mixture.wav, and bass.wav, drums.wav, other.wav and vocals.wav if it is to be scored.
References may be flac, and their names in any case. The mixture is read as the evaluator does, which knows mixture.wav alone.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from tqdm import tqdm

from my_submission.src import audio
from my_submission.src.audio.files import AudioFile, Block
from my_submission.src.audio.tracks import MIXTURE, Track, track_folders
from my_submission.src.common import cli
from my_submission.src.common.atomic import hidden_folder
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import escaped, shown
from my_submission.src.evaluation.metrics import METRICS
from my_submission.src.evaluation.results import INSTRUMENTS, ClippingCounter, Result, line, reference_files, score_files

JOURNAL = "evaluation.jsonl"  # in the folder of the predictions

Stems = Mapping[str, NDArray[Any]]  # instrument -> samples [n, C]
Rates = Mapping[str, int]  # instrument -> sample rate, Hz


class EvaluationError(UserError):
    """A dataset or a model that cannot be evaluated."""


class Model(Protocol):
    """The challenge's contract. A user's own class needs nothing else."""

    @property
    def instruments(self) -> Sequence[str]:
        """Names of the stems that it returns."""

    def separate_music_file(self, mixture: NDArray[Any], sample_rate: int, /) -> tuple[Stems, Rates]:
        """Separate a mixture [n, C]."""


@runtime_checkable
class EnsembleModel(Model, Protocol):
    """A model that also describes itself, as every Separator does."""

    @property
    def note(self) -> str:
        """Shown to the user before separating; may be empty."""

    @property
    def redone_chunks(self) -> int:
        """Number of chunks that overflowed in half precision and were computed again in float32."""

    def members(self) -> Mapping[int, Model]:
        """Return seed -> the model of that seed alone."""

    def settings(self) -> dict[str, Any]:
        """Return everything that the estimates depend on."""


class Wrapper(Protocol):
    """The part of AIcrowdWrapper that an evaluation uses; the class itself lies outside src, in a file that may be replaced."""

    dataset_dir: Path
    predictions_dir: Path
    model: Any

    def separate_music_file(self, foldername: str, /) -> object:
        """Separate a track of dataset_dir into predictions_dir."""

    def check_output(self, stems: Stems, sample_rates: Rates, /) -> None:
        """Refuse any other answer of the model than the four instruments."""

    def save_prediction(self, prediction_path: Path, stems: Stems, sample_rates: Rates, /) -> None:
        """Write the stems into a folder."""


def track_names(data: Path, out: Path) -> list[str]:
    """Return the names of the dataset's tracks: its folders, without junk.

    Raises EvaluationError if there is no track, or if the predictions would be written among the tracks.
    """
    if not data.is_dir():
        raise EvaluationError(f"{data}: no such folder, expected a dataset; name yours with --data")
    if data.resolve() in (out.resolve(), *out.resolve().parents):
        raise EvaluationError(f"--out {out}: lies in the dataset {data}; expected a folder elsewhere")
    tracks = [folder.name for folder in track_folders(data)]
    if not tracks:
        raise EvaluationError(f"{data}: holds no tracks, expected a folder for each, with a mixture.wav in it")
    return tracks


def make_own_model(model_class: Callable[..., Model], options: Mapping[str, Any]) -> Model:
    """Return a model of user_config.py's class. The class need not accept options that were left at None or "auto".

    Raises EvaluationError if the class does not accept the others.
    """
    given = {name: value for name, value in options.items() if value not in (None, "auto")}
    try:
        inspect.signature(model_class).bind(**given)
    except TypeError as error:
        raise EvaluationError(f"MySeparationModel of user_config.py does not take these options ({error})") from error
    return model_class(**given)


def refuse_other_instruments(model: Model, name: str) -> None:
    """Raise EvaluationError unless a model of that name separates exactly the challenge's instruments."""
    if sorted(model.instruments) != list(INSTRUMENTS):
        raise EvaluationError(
            f"{name}: separates {', '.join(model.instruments)}; the challenge wants exactly {', '.join(INSTRUMENTS)} "
            "(to use another model: python -m my_submission separate)"
        )


def members_of(model: Model) -> dict[str, Model]:
    """Return "seed 0" -> that member of an ensemble, as a model. Raises EvaluationError unless there are several members."""
    members = model.members() if isinstance(model, EnsembleModel) else {}
    if len(members) < 2:
        raise EvaluationError("--each-seed: this model is no ensemble of several seeds; leave it out")
    return {f"seed {seed}": member for seed, member in members.items()}


def settings_of_run(data: Path, model: Model, members: Mapping[str, Model] | None = None) -> dict[str, Any]:
    """Return the settings that tell one evaluation from another; a change in them makes the journal start again."""
    settings = {"the dataset": str(data.resolve()), "the model's class": type(model).__qualname__}
    if isinstance(model, EnsembleModel):
        settings |= model.settings()
    return settings | {"each seed": ", ".join(members or ()) or "no"}


def evaluate(
    wrapper: Wrapper, tracks: Sequence[str], journal: Journal, members: Mapping[str, Model] | None = None
) -> tuple[list[Result], dict[str, str]]:
    """Evaluate the tracks that the journal does not hold yet; print a line for each. A track that fails costs no other.

    Args:
        wrapper: the evaluator's entry point, with its folders and its model.
        tracks: names of folders of the dataset, in the order of the results.
        journal: of the settings that `settings_of_run` returns. Each result is on the disk before the next track begins.
        members: as `members_of` returns them, to score each of them too; it multiplies the time. Default: none.

    Returns the results, and track -> reason for the tracks that failed.
    """
    found = {entry["track"]: Result.from_entry(entry) for entry in journal.entries}
    results = {track: found[track] for track in tracks if track in found and _is_current(found[track], wrapper)}
    failed = {}
    if journal.differences:
        print(f"starting again: {'; '.join(journal.differences)}", flush=True)
    if results:
        print(f"going on where the last evaluation stopped: {len(results)} of {len(tracks)} tracks are done", flush=True)
    with tqdm(total=len(tracks), initial=len(results), desc="tracks", unit="track", disable=None) as bar:
        for track in tracks:
            if track in results:
                continue
            try:
                result = evaluate_track(wrapper, track, members)
            except UserError as error:
                failed[track] = str(error)
            except Exception as error:  # a user's own model may fail in any way; the other tracks are still evaluated
                failed[track] = f"{type(error).__name__}: {error}"
                tqdm.write(escaped(traceback.format_exc()), file=sys.stderr)
            else:
                journal.append(result.entry())
                results[track] = result
            tqdm.write(f"{shown(track)}: {line(results[track]) if track in results else 'FAILED: ' + escaped(failed[track])}")
            sys.stdout.flush()
            bar.update()
    return [results[track] for track in tracks if track in results], failed


def evaluate_track(wrapper: Wrapper, track: str, members: Mapping[str, Model] | None = None) -> Result:
    """Separate one track through the wrapper and score the files that it wrote, as the challenge does; score members likewise.

    Raises UserError for audio that cannot be used, and everything that the model and the wrapper raise.
    """
    folder, predictions = wrapper.dataset_dir / track, wrapper.predictions_dir / track
    for name in INSTRUMENTS:  # a track that fails must not leave the stems of an earlier run behind
        (predictions / f"{name}.wav").unlink(missing_ok=True)
    _refuse_other_mixture(folder)
    files = _stamps(folder)
    references = reference_files(folder)
    seconds = audio.AudioFile(folder / "mixture.wav").seconds
    started = time.perf_counter()
    with cli.seconds_bar(wrapper.model, seconds, "this track", position=1):
        wrapper.separate_music_file(track)
    taken = time.perf_counter() - started
    missing = [name for name in INSTRUMENTS if name not in references]
    instead = [file for name in missing for file in Track(folder).in_other_formats(name)]
    counter = ClippingCounter()
    scores: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    by_member = {}
    if not missing:
        watches = itertools.chain([counter.watch], itertools.repeat(AudioFile.blocks))  # the first metric counts
        scores = {metric: _scores(references, predictions, metric, watch) for metric, watch in zip(METRICS, watches)}  # noqa: B905
        by_member = {name: _score_member(wrapper, member, folder, references) for name, member in (members or {}).items()}
    return Result(track, seconds, taken, scores, missing, files, by_member, counter.samples, instead)


def _refuse_other_mixture(folder: Path) -> None:
    """Refuse a track without a mixture.wav, and name the mixtures that the evaluator would not read."""
    if (folder / "mixture.wav").exists():
        return
    track = Track(folder)
    found = [path.name for path in track.mixtures] + track.in_other_formats(MIXTURE)
    if found:
        reads = "the evaluator reads mixture.wav alone, so rename or convert it"
        raise EvaluationError(f"{folder / 'mixture.wav'}: no such file (there is {', '.join(found)}); {reads}")


def _scores(
    references: Mapping[str, Path],
    predictions: Path,
    metric: str,
    watch: Callable[[AudioFile], Iterator[Block]] = AudioFile.blocks,
) -> dict[str, float]:
    return {name: score_files(path, predictions / f"{name}.wav", metric, watch) for name, path in references.items()}


def _score_member(wrapper: Wrapper, member: Model, folder: Path, references: Mapping[str, Path]) -> dict[str, float]:
    """Return the SDR of another model on a track's folder. Its stems go through files like the ensemble's, but are not kept."""
    stems, sample_rates = member.separate_music_file(*audio.read(folder / "mixture.wav"))
    wrapper.check_output(stems, sample_rates)
    with hidden_folder(wrapper.predictions_dir) as scratch:
        wrapper.save_prediction(scratch, stems, sample_rates)
        return _scores(references, scratch, "sdr")


def _is_current(result: Result, wrapper: Wrapper) -> bool:
    """Return whether a result of the journal is still valid: same files, same metrics, and the predictions are there."""
    predictions = wrapper.predictions_dir / result.track
    has_stems = all((predictions / f"{name}.wav").is_file() for name in INSTRUMENTS)
    has_scores = result.is_scored or bool(result.missing)
    try:
        return has_stems and has_scores and result.files == _stamps(wrapper.dataset_dir / result.track)
    except UserError:  # the folder can no longer be read; evaluating the track will say so
        return False


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Return the size in bytes and the modification time in ns of a track's files, by name. Raises TrackError."""
    track = Track(folder)
    paths = [folder / "mixture.wav", *(path for name in INSTRUMENTS for path in track.paths_of(name))]
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.exists()}
