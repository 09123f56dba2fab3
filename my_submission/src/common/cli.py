"""What every command line shares: one way to refuse, one way to end.

A user's mistake is one or two lines on standard error and exit status 2; an interrupt is exit status 130.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from tqdm import tqdm

from my_submission.src.common.errors import UserError

PRECISIONS = ("auto", "fp16", "bf16", "tf32", "fp32")  # device.PRECISIONS says what they are; it would load torch here


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in two lines and keeps the layout of its description."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the options are explained, and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\nsee: {self.prog} --help\n")


def positive(text: str) -> int:
    """An option's whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seed_list(text: str) -> list[int]:
    """An option's list of seeds: `0,1,2`."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds like 0,1,2")
    return sorted({int(part) for part in parts})


def add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how an ensemble separates; `ensemble_options` hands them to open_model."""
    parser.add_argument("--overlap", type=positive, metavar="N", help="chunks that cover each sample (default: the model's)")
    parser.add_argument("--seeds", type=seed_list, metavar="0,1,2", help="members of the ensemble (default: all)")
    parser.add_argument("--fast", action="store_true", help="seed 0 and overlap 2, where --seeds and --overlap do not say")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="chunks at a time (default: the model's)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the network; auto is fp16 on CUDA, fp32 elsewhere",
    )
    parser.add_argument("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the best there is)")
    parser.add_argument(
        "--compile",
        default="no",
        choices=("yes", "no"),
        help="compile the network before the first song (1 to 2 minutes), then run faster (default: no)",
    )


def ensemble_options(arguments: argparse.Namespace) -> dict[str, object]:
    """Keyword arguments of a Separator, from what `add_ensemble_options` parsed."""
    options = {name: getattr(arguments, name) for name in ("overlap", "seeds", "batch_size", "precision", "device")}
    if arguments.fast:
        options |= {"overlap": arguments.overlap or 2, "seeds": arguments.seeds or [0]}
    if arguments.compile == "yes":  # a user's own model class need not accept the option
        options["compile"] = True
    return options


def announce_compiling(arguments: argparse.Namespace) -> None:
    """Print that compiling comes first, if `--compile yes` asks for it."""
    if arguments.compile == "yes":
        print("compiling the network first, which takes 1 to 2 minutes", flush=True)


@contextlib.contextmanager
def seconds_bar(model: Any, seconds: float, label: str, position: int = 0) -> Iterator[None]:
    """A bar over the seconds of a song, on a terminal, fed by the model's on_progress; a user's own class need not do so."""
    form = "{desc} {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s, {remaining} left"
    with tqdm(total=seconds, desc=label, position=position, leave=False, disable=None, bar_format=form) as bar:
        model.on_progress = lambda samples: bar.update(samples / model.sample_rate)
        yield


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command's main; give the exit status. A UserError is printed, without a traceback."""
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, so that half-written files are taken away
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning's sentence without the line of code that caused it."""
    print(f"warning: {message}", file=sys.stderr)
