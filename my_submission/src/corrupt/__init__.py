"""What is behind `my_submission.src.corrupt.command`: faults put into clean tracks on purpose.

    tracks   the clean tracks            faults   which stem gets which fault, and how much of it
    sound    how a faulty stem sounds

A file imports only from those before it.
"""

from my_submission.src.common.errors import UserError


class CorruptError(UserError):
    """Tracks that cannot be used, settings that mean nothing, or a place where nothing can be put."""
