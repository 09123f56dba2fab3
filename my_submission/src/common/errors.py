"""The base class of every error that a user can cause."""


class UserError(Exception):
    """A mistake of the user, not of the program: the message says what was found, what was expected and what to do.

    Commands print the message without a traceback and exit with status 2. Every error that a file, a config or an option can
    cause derives from this class.
    """
