"""Training one seed's network: the step (trainer), the loop around it, saved states (resume), validation, several processes."""

from my_submission.src.common.errors import UserError


class TrainingError(UserError):
    """A training that cannot be started, or cannot go on."""
