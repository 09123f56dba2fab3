"""The options by which a command trains networks for a cross-fitted audit."""

from __future__ import annotations

import argparse

from my_submission.src.common import cli

NAMES = ("fold_seed", "num_workers", "save_every", "skip_bad_tracks", "dry_run")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options. One that is not given is None or False."""
    add = parser.add_argument
    add("--fold-seed", type=cli.whole, metavar="N", help="seed of the division into folds (default: 0)")
    add("--num-workers", type=cli.whole, metavar="N", help="processes that read audio for a training (default: up to 4)")
    add("--save-every", type=cli.positive, metavar="N", help="steps between saved states of a training (default: 1000)")
    add("--skip-bad-tracks", action="store_true", help="leave out tracks that cannot be used (default: stop)")
    add("--dry-run", action="store_true", help="print what it would cost, and end")


def fold_seed(options: argparse.Namespace) -> int:
    """Return the seed of the division into folds."""
    return int(options.fold_seed or 0)
