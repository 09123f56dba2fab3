"""Train on data that is partly wrong: find the wrong stems, leave them out, and train on the rest, in one command.

    python -m my_submission clean DATA --config config.yaml --out RUN --dry-run      # says what it costs
    python -m my_submission clean DATA --config config.yaml --out RUN

DATA holds tracks, as for train. Each round divides the tracks into folds and trains a network for each fold, on the tracks of
the others. This network judges the stems of its fold, which it has never heard, so it cannot have learned their faults. The
first round trains on all stems, and each further round on those that passed the one before. At last the seeds of the model are
trained on the stems that passed the last round.

    RUN/audit.csv         a row for each stem, the worst first; see `audit`
    RUN/suspects.html     the worst stems to hear and mark; save the table over RUN/audit.csv and give the command again
    RUN/changes.csv       the scores and verdicts of all rounds
    RUN/folds.csv         the fold of each track; copies of one song are in one fold
    RUN/round_1, ...      the networks of the folds, what they were trained on (keep.csv) and what they measured
    RUN/model             the trained model

The command may be interrupted at any moment, and goes on when it is given again. To listen before the last trainings, give
--until-audit: the command then ends with the page. Exit status: 0; 2 for a mistake in the command line or the data; 130 or 143
after a signal.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from my_submission.src.audit.fold_options import add_options
from my_submission.src.common import cli


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    options = _parse(argv)

    from my_submission.src.audit.cleaning import clean  # imports torch, which --help does not need

    return clean(options)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission clean", description=__doc__)
    add = parser.add_argument
    add("data", nargs="+", type=Path, metavar="DATA", help="folders of tracks")
    add("--config", "-c", required=True, type=Path, metavar="FILE", help="config.yaml with the sizes and the recipe")
    cli.add_override_option(parser)
    add("--out", required=True, type=Path, metavar="RUN", help="folder for everything; made if it is missing")
    add("--rounds", type=cli.positive, default=2, metavar="N", help="number of audits (default: 2)")
    add("--folds", type=cli.positive, default=4, metavar="K", help="networks of an audit, 2 or more (default: 4)")
    add("--seeds", type=cli.seed_list, default=[0, 1, 2], metavar="0,1,2", help="seeds of the model (default: 0,1,2)")
    add("--until-audit", action="store_true", help="end with the page of the suspects, before the model is trained")
    add_options(parser)
    add("--seconds", type=cli.positive, default=2, metavar="N", help="length of an audit's window in seconds (default: 2)")
    add("--overlap", type=cli.positive, default=2, metavar="N", help="chunks over each sample in the audits (default: 2)")
    add("--batch-size", type=cli.positive, metavar="N", help="chunks that are separated together (default: the config's)")
    add("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the first of these that is available)")
    add("--precision", default="auto", choices=cli.PRECISIONS, help="precision of the networks (default: auto)")
    add("--suspects", type=cli.positive, default=20, metavar="N", help="number of stems on the page (default: 20)")
    return parser.parse_args(argv)
