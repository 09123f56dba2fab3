"""Parts that all command lines share: the parser, the options of an ensemble, the progress bar, the exit status.

A user's mistake is reported in one or two lines on standard error, with exit status 2. An interrupt exits with status 130.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from tqdm import tqdm

from my_submission.src.common.errors import UserError
from my_submission.src.common.interrupts import Interrupts
from my_submission.src.common.precisions import PRECISIONS as _PRECISIONS
from my_submission.src.common.streams import guarded_streams
from my_submission.src.common.text import escaped

PRECISIONS = ("auto", *_PRECISIONS)  # choices of --precision


class ReportsProgress(Protocol):
    """A model that calls `on_progress` with the number of samples it has separated since the last call."""

    on_progress: Callable[[int], object]

    @property
    def sample_rate(self) -> int:
        """Rate at which `on_progress` counts samples, Hz."""
        ...


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps the layout of its description and reports errors in two lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the message and how to get help, and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\nsee: {self.prog} --help\n")


def positive(text: str) -> int:
    """Return the whole number that an option's text stands for, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def whole(text: str) -> int:
    """Return the whole number that an option's text stands for, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def seed_list(text: str) -> list[int]:
    """Return the seeds that an option's text lists, sorted: `0,1,2`."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds like 0,1,2")
    return sorted({int(part) for part in parts})


def add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that set how an ensemble separates; `ensemble_options` turns them into keyword arguments."""
    add = parser.add_argument
    add("--overlap", type=positive, metavar="N", help="number of chunks that cover each sample (default: the model's)")
    add("--seeds", type=seed_list, metavar="0,1,2", help="seeds of the networks to average (default: all)")
    add("--fast", action="store_true", help="use seed 0 and overlap 2, unless --seeds or --overlap is given")
    add("--batch-size", type=positive, metavar="N", help="number of chunks in a batch (default: the model's)")
    add(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="precision of the network (default: auto, which is fp16 on CUDA and fp32 elsewhere)",
    )
    add(
        "--device",
        default="auto",
        help="device of the network: auto, cuda, cuda:N, mps or cpu (default: auto, the first available of cuda, mps, cpu)",
    )
    add(
        "--compile",
        default="no",
        choices=("yes", "no"),
        help="compile the network before the first song (1 to 2 minutes), then run faster (default: no)",
    )
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="the model's config (default: config.yaml in its folder, or the only config there)",
    )
    add(
        "--procedure",
        choices=("published", "uvr", "msst"),
        help="how songs are cut into chunks: like the challenge's entry, UVR or MSST (default: like the program of the config)",
    )
    add_override_option(parser)


def add_model_options(parser: argparse.ArgumentParser, verb: str, default: str) -> None:
    """Add `--model`, which fills `models`, and `--weights`.

    Args:
        parser: gets the options.
        verb: says what the command does with the model.
        default: says which model is used without the option, if one is.
    """
    where = "a folder with a config and checkpoints, or a checkpoint"
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="A|B|demo|DIR",
        help=f"model to {verb}; DIR is {where}. Repeat it to average several models{default}",
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="vocals=2,1;default=1,1",
        help="weights of several models: for each stem a number for each --model (default: all 1)",
    )


def add_override_option(parser: argparse.ArgumentParser) -> None:
    """Add `--set`, whose values are the `overrides` of a config."""
    text = "override a key of the config, such as training.lr=0.0004; the value is YAML (repeatable; default: none)"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def ensemble_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of a Separator for the options that `add_ensemble_options` added."""
    options = {name: getattr(arguments, name) for name in ("overlap", "seeds", "batch_size", "precision", "device")}
    if arguments.fast:
        options |= {"overlap": arguments.overlap or 2, "seeds": arguments.seeds or [0]}
    if arguments.compile == "yes":  # left out otherwise, because a user's model class may not accept it
        options["compile"] = True
    overrides = [*arguments.set, *([f"inference.procedure={arguments.procedure}"] if arguments.procedure else [])]
    if overrides:  # the same
        options["overrides"] = overrides
    if arguments.config:  # the same
        options["config"] = arguments.config
    return options


def announce_compiling(arguments: argparse.Namespace) -> None:
    """Print that compiling comes first, if `--compile yes` asks for it."""
    if arguments.compile == "yes":
        print("compiling the network first, which takes 1 to 2 minutes", flush=True)


@contextlib.contextmanager
def seconds_bar(model: ReportsProgress, seconds: float, label: str, position: int = 0) -> Iterator[None]:
    """Show a progress bar over a song on a terminal while the `with` block separates it.

    Args:
        model: moves the bar through its `on_progress`, which is replaced. The bar stands still if the model never calls it.
        seconds: the song's duration.
        label: text to the left of the bar.
        position: the bar's line on the terminal, counted from the top one (default: 0). Set it where bars are nested.
    """
    with open_bar(seconds, label, position) as bar:
        model.on_progress = lambda samples: bar.update(samples / model.sample_rate)
        yield


def open_bar(seconds: float, label: str, position: int = 0) -> tqdm[Any]:
    """Return the progress bar of `seconds_bar`, to be moved and closed by the caller."""
    form = "{desc} {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s, {remaining} left"
    return tqdm(total=seconds, desc=label, position=position, leave=False, disable=None, bar_format=form)


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command's main and return the exit status. A UserError is printed without a traceback.

    After SIGINT, SIGTERM or SIGHUP the stack is unwound, so that partial files are deleted.
    """
    warnings.showwarning = _show_warning
    with guarded_streams(), Interrupts() as interrupts:
        try:
            return main(sys.argv[1:] if argv is None else argv)
        except UserError as error:
            if not interrupts.signal:
                print(f"error: {escaped(str(error))}", file=sys.stderr)
                return 2
        except KeyboardInterrupt:
            interrupts.signal = interrupts.signal or signal.SIGINT
        except Exception:  # if a signal came first, it is the cause: a library may have caught the KeyboardInterrupt
            if not interrupts.signal:
                raise
        if interrupts.signal == signal.SIGINT:
            print("interrupted", file=sys.stderr)
        return 128 + interrupts.signal


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning's message without the line of code that caused it."""
    _warned.add(str(message))
    print(f"warning: {escaped(str(message))}", file=sys.stderr)


_warned: set[str] = set()  # messages of the warnings that were printed


def warn_once(message: str) -> None:
    """Print the warning of another process, unless this one has printed the same."""
    if message not in _warned:
        _warned.add(message)
        tqdm.write(f"warning: {escaped(message)}", file=sys.stderr)
