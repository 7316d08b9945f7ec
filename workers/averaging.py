"""An exponential moving average of a network's weights, which is then validated and tested in its place.

After the first step the average is the network itself; after each further one it is
`decay * average + (1 - decay) * network`, for weights and for buffers (batch norm's running statistics) alike.
"""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network that follows it: call `update_parameters(network)` after each step."""
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
