"""Damage files of every kind at random, and count how reading them ends.

    python tests/benchmarks/fuzz.py                          # 1,000 files of each kind
    python tests/benchmarks/fuzz.py --count 10000 --kinds "mp3 constant" "flac 16"

A file must be read or refused with a UserError. Everything else is a failure: another error, a length that disagrees with the
samples read, a crash of the process, or a file that takes more than ten seconds. The exit status is 1 if there is a failure. A
failure's number repeats it: `--first 4711 --count 1`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.helpers.fuzz import KINDS, try_damaged  # noqa: E402

LIMIT = 10.0  # seconds that one file may take


def main(argv: Sequence[str]) -> int:
    """Try all kinds; print a line for each, and the failures. Return 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of damaged files of each kind (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first damaged file (default: 0)")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND", help="default: all")
    options = parser.parse_args(argv)
    failed = False
    for name in options.kinds:
        outcomes = try_kind(name, range(options.first, options.first + options.count))
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}", flush=True)
        failed = failed or any(outcome.startswith("FAILED") for outcome in outcomes)
    return int(failed)


def try_kind(name: str, seeds: range) -> Counter[str]:
    """Try damaged files of a kind in another process, and start a new one where it crashes or hangs."""
    outcomes: Counter[str] = Counter()
    place = seeds.start
    while place < seeds.stop:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=_work, args=(name, range(place, seeds.stop), theirs))
        process.start()
        theirs.close()
        try:
            while place < seeds.stop:
                outcome = ours.recv() if ours.poll(LIMIT) else None
                if outcome is None:
                    break
                outcomes[outcome] += 1
                place += 1
        except EOFError:
            pass
        if place < seeds.stop:
            hangs = process.is_alive()
            process.kill()
            outcomes[f"FAILED ({'took too long' if hangs else 'crashed'}, such as number {place})"] += 1
            place += 1
        process.join()
    return outcomes


def _work(name: str, seeds: range, results: Connection) -> None:
    """Send the outcome of every damaged file."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print a line for each damaged frame
    known: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        whole = KINDS[name].make(Path(scratch))
        for seed in seeds:
            try:
                outcome = try_damaged(KINDS[name], whole, seed, Path(scratch))
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"FAILED ({type(error).__name__} in {Path(where.filename).name}:{where.lineno})"
                if outcome not in known:
                    print(f"{name}, number {seed}: {outcome}: {error}", flush=True)
                known.add(outcome)
            results.send(outcome)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
