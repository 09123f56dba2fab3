"""What is behind `my_submission.src.audit.command`.

stems      the stems of folders of tracks
windows    what a model makes of a stem by itself, window by window
scoring    from windows to scores: what is usual for an instrument, and how far a stem is from it
masked     from what trainings left out to scores
page       the page of the worst
"""

from my_submission.src.common.errors import UserError

COLUMNS = ("track", "instrument", "score", "self_sdr", "margin_db", "seconds", "from_s", "to_s", "contains", "keep")


class AuditError(UserError):
    """A data set, a model or a training's table that cannot be audited."""
