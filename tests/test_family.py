"""Models of other programs: the answers of MSST itself, forms of checkpoints and folders, and refusals in one line."""
