"""How tensors are computed: on which device, in which precision, compiled or not."""
