"""`python -m my_submission VERB` runs a command of the package. Each command's module is imported only when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

VERBS = {  # verb -> (module of the command in my_submission.src, line of the help)
    "separate": ("separate", "separate songs into stems"),
    "train": ("train", "train a network on a folder of tracks"),
    "inspect": ("family.inspect", "print what a model is: its stems, size, procedure and cost"),
    "install": ("challenge.install", "install the published checkpoints"),
    "synth": ("synth.command", "synthesize songs for tests and demos"),
    "audit": ("audit.command", "find stems that do not match their names"),
    "clean": ("audit.clean", "train on data that is partly wrong: audit it, leave out what is wrong, train"),
    "corrupt": ("corrupt.command", "put known faults into clean songs"),
    "preflight": ("challenge.preflight", "check everything that a submission needs"),
}


def main(argv: Sequence[str]) -> int:
    """Run the command that the first argument names with the other arguments, and return its exit status."""
    verbs = "\n".join(f"  {verb:<10} {meaning}" for verb, (_, meaning) in VERBS.items())
    usage = f"usage: python -m my_submission VERB ...\n\n{verbs}\n\npython -m my_submission VERB --help explains each."
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0 if argv else 2
    if argv[0] not in VERBS:
        print(f"error: {argv[0]!r} is no command, expected one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"my_submission.src.{VERBS[argv[0]][0]}").main(argv[1:])


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until cli.run takes over, nothing is half-written

    from my_submission.src.common import cli

    sys.exit(cli.run(main))
