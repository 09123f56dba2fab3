"""Train one seed's network on folders of tracks; HOW_TO_TRAIN.md has the whole procedure.

    python src/train.py --config ckpts/modelA/config.yaml --data-path DATA --model-path runs/A --seed 0
    python src/train.py --config ... --device-ids 0 1               # two GPUs
    torchrun --nproc-per-node 4 src/train.py --config ...           # four GPUs, or several machines
    python -m my_submission train --config ...                      # the same, from the repository's root

DATA holds one folder per track, with one wav or flac per instrument: DATA/song/{vocals,drums,bass,other}.wav.
The result is runs/A/step{N}_seed{S}.ckpt. The same command resumes an interrupted run.
Options may be written with underscores, too: --data_path.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: replace this folder by the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from my_submission.src.common import cli
from my_submission.src.common.text import shown
from my_submission.src.training import DEFAULT_THRESHOLD, TrainingError, launch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from my_submission.src.audio.tracks import Track
    from my_submission.src.config import Config
    from my_submission.src.training.distributed import World
    from my_submission.src.training.loop import Run
    from my_submission.src.training.run_folder import RunFolder
    from my_submission.src.training.validation import Validation


def main(argv: Sequence[str]) -> int:
    """Train a network. Return 0 when it is trained, 130 after SIGINT, 143 after SIGTERM."""
    options = _parse(argv)
    if len(options.device_ids) > 1 and not launch.is_launched():
        return launch.launch(__file__, argv, len(options.device_ids))

    import torch

    from my_submission.src.runtime.compiling import translate_compile_errors
    from my_submission.src.training.distributed import join
    from my_submission.src.training.run_folder import RunFolder

    use_cuda = options.device.partition(":")[0] in ("auto", "cuda") and torch.cuda.is_available()
    with join(use_cuda) as world, translate_compile_errors(), contextlib.ExitStack() as claim:
        with world.fail_together():
            if world.is_main:
                claim.enter_context(RunFolder(options.model_path or options.config.parent, options.seed).claimed())
        return _start(options, world).train()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="train.py", description=__doc__)
    add = parser.add_argument
    workers = min(4, os.cpu_count() or 1)
    add("--config", "-c", required=True, type=Path, metavar="FILE", help="config.yaml with the sizes and the recipe")
    cli.add_override_option(parser)
    add("--data-path", nargs="+", metavar="DIR", help="folders of tracks (default: training.datasets of the config)")
    add("--model-path", type=Path, metavar="DIR", help="folder for the checkpoint and the log (default: the config's folder)")
    add("--seed", type=cli.whole, default=0, metavar="N", help="seed of the weights and of the data's order (default: 0)")
    add("--init", type=Path, metavar="CKPT", help="checkpoint to start from (default: random weights)")
    add("--num-steps", type=cli.positive, metavar="N", help="number of steps (default: training.num_steps of the config)")
    readers = f"processes that read audio, for each GPU (default: {workers})"
    add("--num-workers", type=cli.whole, default=workers, metavar="N", help=readers)
    add(
        "--skip-bad-tracks",
        action="store_true",
        help="leave out tracks that cannot be used, also of --valid-path (default: stop)",
    )
    add("--keep", type=Path, metavar="FILE", help="train only on the stems that pass in this table of the audit (default: all)")
    add("--keep-threshold", type=float, metavar="X", help=f"lowest score that passes (default: {DEFAULT_THRESHOLD:g})")
    add("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the first of these that is available)")
    add(
        "--device-ids", nargs="+", type=cli.whole, default=[], metavar="N", help="CUDA devices, one process each (default: one)"
    )
    precisions = "precision of the network (default: auto, which is fp16 on CUDA and fp32 elsewhere)"
    add("--precision", default="auto", choices=cli.PRECISIONS, help=precisions)
    add("--compile", action="store_true", help="compile the network in the first step (minutes), then run faster (default: no)")
    add("--valid-path", type=Path, metavar="DIR", help="folder of tracks for validation (default: no validation)")
    add("--valid-every", type=cli.positive, default=5000, metavar="N", help="steps between validations (default: 5000)")
    add("--save-every", type=cli.positive, default=1000, metavar="N", help="steps between saved states (default: 1000)")
    add("--log-every", type=cli.positive, default=100, metavar="N", help="steps between log lines (default: 100)")
    add("--restart", action="store_true", help="delete this seed's saved states and start again (default: resume)")
    options = parser.parse_args([_with_dashes(word) for word in argv])
    if options.keep_threshold is not None and options.keep is None:
        parser.error("--keep-threshold is for the scores of a table, but there is none: name one with --keep")
    if launch.is_launched() and options.device_ids and not launch.is_ours():
        parser.error("torchrun starts the processes itself, one for each GPU: leave out --device-ids")
    if len(set(options.device_ids)) < len(options.device_ids):
        parser.error(f"--device-ids names a device twice: {' '.join(map(str, options.device_ids))}")
    if options.device_ids and options.device not in ("auto", "cuda", "cpu"):
        parser.error(f"--device {options.device} and --device-ids name devices both: leave out one of them")
    return options


def _with_dashes(word: str) -> str:
    """Return an option in the spelling of the help: --data_path=my_songs becomes --data-path=my_songs."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


@dataclass(frozen=True)
class _Plan:
    """The command line and the files that it names, checked."""

    config: Config  # with the command line's changes
    folder: RunFolder
    device: torch.device
    precision: str
    tracks: list[Track]
    kept: str | None  # with --keep: the numbers of stems that pass, in words
    validation: Validation | None
    weights: dict[str, Tensor] | None  # to start from
    payload: bytes | None  # the saved state, on rank 0


def _start(options: argparse.Namespace, world: World) -> Run:
    """Check everything, then build the run. An error on one rank ends all ranks."""
    from my_submission.src.training import resume
    from my_submission.src.training.loop import Run
    from my_submission.src.training.trainer import Trainer

    with world.fail_together(), _warnings_of_rank_0_only(world):
        plan = _check(options, world)
    payload = world.broadcast(plan.payload)
    with world.fail_together():
        trainer = Trainer(
            plan.config,
            seed=options.seed,
            device=plan.device,
            precision=plan.precision,
            world=world,
            weights=plan.weights,
            compile=options.compile,
        )
        run = Run(
            trainer,
            plan.folder,
            tracks=plan.tracks,
            workers=options.num_workers,
            validation=plan.validation,
            save_every=options.save_every,
            log_every=options.log_every,
            valid_every=options.valid_every,
        )
        if payload is not None:
            run.resume(resume.read_payload(payload))
    _refuse_different_data(run.data(), world)
    with world.fail_together():
        if world.is_main:
            heading = f"# What seed {options.seed} was last trained with: {options.config} and the command line.\n"
            heading += f"# {plan.kept}\n" if plan.kept else ""
            plan.folder.prepare(plan.config, heading, options.restart)
            _announce(options, plan, run)
    return run


@contextlib.contextmanager
def _warnings_of_rank_0_only(world: World) -> Iterator[None]:
    """Silence the other ranks' warnings inside: all ranks check the same files, so they would repeat those of rank 0."""
    with warnings.catch_warnings():
        if not world.is_main:
            warnings.simplefilter("ignore")
        yield


def _check(options: argparse.Namespace, world: World) -> _Plan:
    """Check the command line and every file that it names."""
    from my_submission.src.dataset import open_tracks
    from my_submission.src.runtime.device import pick_precision
    from my_submission.src.training import resume
    from my_submission.src.training.run_folder import RunFolder

    config = _config(options)
    training = config.training
    folder = RunFolder(options.model_path or options.config.parent, options.seed)
    resume.refuse_other_network(folder, config)
    device = _device(options, world)
    precision = pick_precision(options.precision, device)
    weights = _weights(options.init, config)
    payload = resume.newest_payload(folder) if world.is_main and not options.restart else None
    result = folder.checkpoint(training.num_steps)
    if world.is_main and payload is None and not options.restart and result.exists():
        raise TrainingError(
            f"{result} is there already, and no saved state that belongs to it; take another --model-path, or --restart to "
            "train it again and replace it"
        )
    tracks = open_tracks(training.datasets, config, skip_bad_tracks=options.skip_bad_tracks)
    kept = None
    if options.keep:
        from my_submission.src.training.stem_filter import keep_stems, kept_counts

        threshold = DEFAULT_THRESHOLD if options.keep_threshold is None else options.keep_threshold
        tracks = keep_stems(tracks, options.keep, config, threshold=threshold, skip_bad_tracks=options.skip_bad_tracks)
        counts = kept_counts(tracks, training.instruments)
        kept = f"--keep {shown(options.keep)} at a threshold of {threshold:g}: {counts}"
    validation = None
    if options.valid_path:
        from my_submission.src.training.validation import Validation

        validation = Validation(
            options.valid_path,
            config,
            device=device,
            precision=precision,
            world=world,
            skip_bad_tracks=options.skip_bad_tracks,
        )
    return _Plan(config, folder, device, precision, tracks, kept, validation, weights, payload)


def _config(options: argparse.Namespace) -> Config:
    """Read the config and apply the command line's changes to it."""
    from my_submission.src.config import load_config

    config = load_config(options.config, options.set) if options.set else load_config(options.config)
    training = config.training
    data = tuple(options.data_path or training.datasets)
    if not data:
        raise TrainingError(f"no data: name folders of tracks with --data-path, or as training.datasets in {options.config}")
    training = dataclasses.replace(training, datasets=data, num_steps=options.num_steps or training.num_steps)
    return dataclasses.replace(config, training=training)


def _weights(path: Path | None, config: Config) -> dict[str, Tensor] | None:
    """Read the checkpoint to start from, if any, and check that the network can load it."""
    from my_submission.src.checkpoint import load_network, read_state_dict

    return None if path is None else load_network(config, read_state_dict(path), str(path)).state_dict()


def _device(options: argparse.Namespace, world: World) -> torch.device:
    """Return this rank's device."""
    import torch

    from my_submission.src.runtime.device import pick_device

    ids = options.device_ids or (range(world.local_rank + 1) if world.size > 1 else ())
    if options.device == "cpu" or (options.device == "auto" and not options.device_ids and not torch.cuda.is_available()):
        ids = ()
    if world.size > 1 and options.device.startswith("cuda:"):
        raise TrainingError(f"--device {options.device} is one device, but {world.size} processes run; take --device cuda")
    device = pick_device(f"cuda:{ids[world.local_rank]}" if ids else options.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True  # all batches have one size
    return device


def _refuse_different_data(data: dict[str, list[str]], world: World) -> None:
    """End all ranks with an error if they see different tracks or leave out different stems."""
    everyones = world.gather(data)
    with world.fail_together():
        for key, difference in (("tracks", "see different tracks"), ("dropped", "leave out different stems")):
            if any(theirs[key] != data[key] for theirs in everyones):
                counts = ", ".join(f"{len(theirs[key])} on rank {rank}" for rank, theirs in enumerate(everyones))
                raise TrainingError(f"the processes {difference} ({counts}); give every machine the same files")


def _announce(options: argparse.Namespace, plan: _Plan, run: Run) -> None:
    """Print a summary of the run."""
    from my_submission.src.runtime.device import precision_advice

    training, rate = plan.config.training, plan.config.audio.sample_rate
    hours = sum(track.num_samples for track in plan.tracks) / rate / 3600
    parameters = sum(parameter.numel() for parameter in run.trainer.network.parameters())
    processes = f", {run.world.size} processes" if run.world.size > 1 else ""
    print(
        f"seed {options.seed}: {len(plan.tracks)} tracks ({hours:.2f} h), {parameters:,} parameters, {training.num_steps} "
        f"steps of {training.batch_size} chunks, {plan.device.type} in {plan.precision}{processes}"
    )
    for line in (precision_advice(plan.precision, plan.device), plan.kept):
        if line:
            print(line)
    done = run.trainer.steps
    if done == training.num_steps:
        print(f"all {done} steps are done already")
    elif done:
        print(f"going on from step {done}, saved in {shown(plan.folder.path)}")
    if options.compile and done < training.num_steps:
        print("the next step compiles the network first, which may take minutes")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(cli.run(main))
