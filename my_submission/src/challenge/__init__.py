"""The challenge: the published checkpoints, and the checks before a submission."""
