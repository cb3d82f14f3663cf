"""One assignment over the batches of all ranks of a ``torch.distributed`` process group."""
