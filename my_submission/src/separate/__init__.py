"""The separate command: one process's songs (batch), processes that share songs (worker, jobs), the command line (command)."""

from my_submission.src.separate.command import main

__all__ = ["main"]
