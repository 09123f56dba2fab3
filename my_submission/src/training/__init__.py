"""Training one seed's network: the step (trainer), the loop around it, saved states (resume), validation, several processes."""

from my_submission.src.common.errors import UserError

DEFAULT_THRESHOLD = 0.0  # the lowest score of a stem that training keeps; the audit makes its recommended cut lie here


class TrainingError(UserError):
    """A training that cannot be started, or cannot go on."""
