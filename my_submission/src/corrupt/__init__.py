"""Put faults into clean tracks on purpose. The command is `my_submission.src.corrupt.command`.

tracks   open the clean tracks
faults   draw which stem gets which fault, and how strong it is
sound    compute the sound of a faulty stem
"""

from my_submission.src.common.errors import UserError


class CorruptError(UserError):
    """Settings outside their range, or an output folder that cannot be used."""
