"""Sums over the processes that train one net together; of one process nothing is exchanged."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributed as dist


def is_single_process() -> bool:
    """Return whether there is one process."""
    return not (dist.is_available() and dist.is_initialized())


def all_reduce_sum(tensor: Tensor) -> None:
    """Add up a tensor over processes, in place."""
    if not is_single_process():
        dist.all_reduce(tensor)


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of parameters over processes, in place, by one exchange."""
    if is_single_process():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    all_reduce_sum(flat)
    sums = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
