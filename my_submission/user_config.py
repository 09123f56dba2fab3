"""The model that the evaluator runs: A for the label-noise leaderboard, B for bleeding."""

from my_submission.src.separator import ModelA as A
from my_submission.src.separator import ModelB as B

__all__ = ["A", "B", "MySeparationModel"]

MySeparationModel = A
