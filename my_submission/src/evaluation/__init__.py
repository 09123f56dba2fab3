"""The challenge's score, and the results of an evaluation."""
