"""Work on tensors that a GPU records once and replays, as a CUDA graph.

The kernels of a small net take less time than Python needs to ask for each of them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

WARM_UP_RUNS = 3
"""Times that work is done before it is recorded, so that libraries have chosen their kernels."""

NestedTensors = Any
"""Tensors in tuples and named tuples, at any depth."""


class CapturedGraph:
    """Work whose kernels are replayed on other tensors of the same shapes.

    `work` reads nothing but its argument and tensors that stay where they are, such as the weights
    of a net, and waits for nothing that the GPU does; it may add to the gradients of weights, which
    then must stay where they are too. Each replay draws other random numbers.
    """

    def __init__(self, work: Callable[[NestedTensors], Tensor], example: NestedTensors) -> None:
        """Record the work on a copy of tensors on a GPU; the state of random numbers is kept."""
        device = next(iter_tensors(example)).device
        self.static_input = copy_to(example, device)
        with torch.random.fork_rng([device]):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP_RUNS):
                    work(self.static_input)
            torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.static_output = work(self.static_input)

    def matches_shapes(self, read: NestedTensors) -> bool:
        """Whether these tensors have the shapes of those recorded."""
        return [x.shape for x in iter_tensors(read)] == [
            x.shape for x in iter_tensors(self.static_input)
        ]

    def __call__(self, read: NestedTensors) -> Tensor:
        """Do the work on these tensors; the result is a copy."""
        by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for mine, other in zip(iter_tensors(self.static_input), iter_tensors(read), strict=True):
            into, out_of = by_type.setdefault(mine.dtype, ([], []))
            into.append(mine)
            out_of.append(other)
        for into, out_of in by_type.values():
            torch._foreach_copy_(into, out_of)  # one kernel for those of a type
        self.graph.replay()
        return self.static_output.clone()


def iter_tensors(nested: NestedTensors) -> Iterator[Tensor]:
    """The tensors, in order."""
    if isinstance(nested, Tensor):
        yield nested
        return
    for part in nested:
        yield from iter_tensors(part)


def copy_to(nested: NestedTensors, device: torch.device) -> NestedTensors:
    """A copy on a device, of the same named tuples."""
    if isinstance(nested, Tensor):
        return nested.to(device, copy=True)
    parts = [copy_to(part, device) for part in nested]
    return type(nested)(*parts) if hasattr(nested, "_fields") else tuple(parts)
