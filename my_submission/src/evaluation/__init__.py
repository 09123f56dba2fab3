"""The evaluation of a model: the challenge's score (metrics), its results (results), and a whole dataset (evaluate)."""
