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

        # warm up on a stream of its own: nothing of it may end up in the recording
        with torch.random.fork_rng([device]):
            warm_up_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            warm_up_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm_up_stream):
                for _ in range(WARM_UP_RUNS):
                    work(self.static_input)
            torch.cuda.current_stream().wait_stream(warm_up_stream)

        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.static_output = work(self.static_input)

    def matches_shapes(self, nested: NestedTensors) -> bool:
        """Return whether these tensors have the shapes of those recorded."""
        shapes = [tensor.shape for tensor in iter_tensors(nested)]
        return shapes == [tensor.shape for tensor in iter_tensors(self.static_input)]

    def __call__(self, nested: NestedTensors) -> Tensor:
        """Do the work on these tensors; the result is a copy."""
        by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for static, given in zip(
            iter_tensors(self.static_input), iter_tensors(nested), strict=True
        ):
            destinations, sources = by_type.setdefault(static.dtype, ([], []))
            destinations.append(static)
            sources.append(given)
        for destinations, sources in by_type.values():
            torch._foreach_copy_(destinations, sources)  # one kernel for those of a type

        self.graph.replay()
        return self.static_output.clone()


def iter_tensors(nested: NestedTensors) -> Iterator[Tensor]:
    """Yield the tensors, in order."""
    if isinstance(nested, Tensor):
        yield nested
        return
    for item in nested:
        yield from iter_tensors(item)


def copy_to(nested: NestedTensors, device: torch.device) -> NestedTensors:
    """Copy tensors to a device, in the same named tuples."""
    if isinstance(nested, Tensor):
        return nested.to(device, copy=True)
    items = [copy_to(item, device) for item in nested]
    is_named_tuple = hasattr(nested, "_fields")  # made of its fields, a plain tuple of a list
    return type(nested)(*items) if is_named_tuple else tuple(items)
