"""The one error that every command turns into a message."""


class UserError(Exception):
    """A mistake of the user's, not ours: its message says what was found, what was expected and what to do.

    Commands print the message, without a traceback, and exit with status 2. Every error that a file, a config or
    an option can cause derives from it.
    """
