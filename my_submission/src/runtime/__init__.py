"""How tensors are computed: device, precision, compilation, copies and memory."""
