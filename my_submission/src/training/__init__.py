"""Training one seed's network: the step (trainer), the loop around it, saved states (resume), validation, several processes."""

from my_submission.src.common.errors import UserError

DEFAULT_THRESHOLD = 0.0  # training keeps a stem with this score or a higher one; the audit's recommended cut is this score


class TrainingError(UserError):
    """The training cannot start or cannot continue."""
