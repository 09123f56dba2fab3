"""Kill commands at random moments, as often as wanted, and check what they leave.

    python tests/benchmarks/kills.py 200                       # 200 kills of each command
    python tests/benchmarks/kills.py 200 separate --seed 1     # of one of them

Half of the kills come at a random time, the others just before a random file operation. After one to three kills the same
command has to end with status 0, with the same files as without kills and nothing hidden left. A kill must never leave a song,
a track or a checkpoint that looks finished and is not. The columns of the table:

    by time, by operation   number of kills of both kinds
    left                    hidden files and folders that were there after the kills, all cleared away by the next run
    completed               runs to the end
    fault                   the first check that failed, if any; the series then ends
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from measuring import print_table  # noqa: E402

from tests.helpers.kill_subjects import SUBJECTS  # noqa: E402
from tests.helpers.kills import Killer  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, metavar="N", help="number of kills of each command")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the moments (default: 0)")
    options = parser.parse_args(argv)
    rows = []
    for name in options.commands or SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            killer = Killer(SUBJECTS[name](Path(folder)), options.seed)
            fault = ""
            try:
                killer.run(options.kills)
            except AssertionError as error:
                fault = " ".join(str(error).split())[:200] or "a check failed"
                print(f"{name}: {error}", file=sys.stderr)
            report = killer.report
        counts = map(str, (report.by_time, report.by_operation, report.leftovers, report.completed))
        rows.append([name, *counts, fault])
        print(*rows[-1], flush=True)
    print_table(["command", "by time", "by operation", "left", "completed", "fault"], rows)
    return 1 if any(row[-1] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
