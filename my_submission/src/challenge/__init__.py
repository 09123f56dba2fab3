"""Around the challenge: the published checkpoints, and the check before a submission."""
