"""The precisions in which a network can compute. This module does not load torch, so that `--help` is fast."""

PRECISIONS = {"fp16": "float16", "bf16": "bfloat16", "tf32": "float32", "fp32": "float32"}  # name -> dtype in torch
