"""The LSTM works on a batch in chunks, and its sizes are checked."""

import pytest
import torch
from factories.neural import FIVE_NODES, NETS, make_net
from torch import nn

from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.lstm import LSTM


def test_an_lstm_in_chunks_is_the_same_lstm(
    prepared: tuple[CohortTensors, InputScaling], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of a batch stop at their longest prefix: states and gradients are those of all."""
    windows, scaling = prepared
    net = make_net(NETS["lstm"], scaling.input_sizes).eval()
    nn.init.normal_(net.head.linear.weight)  # it starts at zero
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(2))
    inputs = windows.inputs_and_targets(tasks)[0]
    results = []
    for chunk_size in (10**9, 16):
        monkeypatch.setattr("ltvnet.models.neural.nets.lstm.TASKS_PER_CHUNK", chunk_size)
        raw = net(inputs)
        gradients = torch.autograd.grad(raw.square().sum(), list(net.layers.parameters()))
        results.append((raw.detach(), *gradients))
    for in_one_chunk, in_chunks in zip(*results, strict=True):
        torch.testing.assert_close(in_one_chunk, in_chunks, rtol=1e-4, atol=1e-5)
    assert len(tasks.observed_age) > 2 * 16


@pytest.mark.parametrize("units", [[], [0]])
def test_bad_sizes_are_refused(units: list[int]) -> None:
    with pytest.raises(ValueError, match=r"units, dense and embedding >= 1.*got \["):
        LSTM(sizes=FIVE_NODES, units=units, dense=4, embedding=2, dropout=0.1)
