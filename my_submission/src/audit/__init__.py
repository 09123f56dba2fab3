"""Find stems that are not what their names say. The command is `my_submission.src.audit.command`.

stems          find the stems of tracks
stem_score     the record of a stem: its row in the table, on the page and in the printout
windows        measure the outputs of a model for a single stem, window by window
scoring        compute scores from windows: baselines by instrument, and each stem's distance from them
from_training  compute scores from the chunks that trainings masked
page_markup    the HTML of the page
page           write the page of the worst stems
"""

from my_submission.src.common.errors import UserError


class AuditError(UserError):
    """A dataset, a model or a training's table that cannot be audited."""
