"""An exponential moving average of a network's weights, which is validated and tested instead of the network itself.

After the first step the average is the network itself; after each further one it is
`decay * average + (1 - decay) * network`, for weights and for buffers (batch norm's running statistics) alike. Integer
buffers, such as batch norm's count of batches, are copied from the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedNetwork(AveragedModel):
    """A copy of the network that follows it: call `update_parameters(network)` after each step.

    PyTorch's own update copies its step count to the device, and so waits for the GPU to finish its queue; the moving
    average does not need the count there.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(network, multi_avg_fn=average, use_buffers=True)
        self._average = average

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average with the network's weights."""
        if self.n_averaged == 0:  # the count is on the CPU, wherever the network is
            super().update_parameters(model)
            return
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        numbers = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        self._average([mine for mine, _ in numbers], [theirs for _, theirs in numbers], None)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    for tensors in (network.parameters(), network.buffers()):
        for tensor in tensors:
            yield tensor.detach()
