"""The house behind the entry points; README.md has its map.

The legend of shapes, used in every module: B batch, S sources (stems), C audio channels, T or n samples,
F frequency bins, L STFT frames. `mixture` [B, C, T], `sources` and `estimates` [B, S, C, T], `spec` [B, ..., F, L].
"""


class UserError(Exception):
    """A mistake of the user's, not ours: its message says what was found, what was expected and what to do.

    Commands print the message, without a traceback, and exit with status 2. Every error that a file, a config or
    an option can cause derives from it.
    """
