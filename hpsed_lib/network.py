"""The gated convolutional recurrent network (Sec. 2.1, Figs. 2 and 3).

Conventions: the input is (batch, frames, n_mels), log-mel in dB; both outputs are (batch, frames, classes) at the
network's own frame rate (12.5 Hz for the paper's 50 Hz input). The network normalises its input itself, with the
training set's statistics kept as buffers, so that a checkpoint needs nothing else to be used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Network
from hpsed_lib.recurrence import BidirectionalGRU


class GatedConv(nn.Module):
    """Gated 3x3 convolution with batch norm: ``a * sigmoid(b)`` of the two halves of its channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Batch norm brings the bias; another one would have no gradient but rounding noise.
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.norm(self.conv(x)), dim=1)


class GatedCRNN(nn.Module):
    """Gated CRNN: frame-level probabilities, and the weights of attention pooling.

    Parameters
    ----------
    params : Network
        Widths, pools, dropout.
    n_mels : int
        Mel bands of the input.
    n_classes : int
        Event classes.
    mean, std : np.ndarray, shape (n_mels,)
        Normalisation of the input, in dB.

    References
    ----------
    Figs. 2 and 3: four blocks of two gated convolutions, batch norm, dropout and max-pooling; one more convolution;
    channels stacked on the frequency axis; a Bi-GRU; a dense layer with sigmoid. The attention's dense layer has the
    same input (Sec. 2.2); its softmax is over classes, as in the paper's reference [4], or over time. ``sharpness``,
    (classes,), is for pooling functions of later years (`hpsed_lib.pooling`); it starts at 1, where power pooling is
    linear softmax and autopool exponential softmax.
    """

    def __init__(self, params: Network, *, n_mels: int, n_classes: int, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))
        self.attention_dim = {"classes": 2, "time": 1}[params.attention_softmax]

        blocks: list[nn.Module] = []
        channels, bands = 1, n_mels
        for out_channels, pool in zip(params.block_channels, params.block_pools, strict=True):
            gates = [GatedConv(channels, out_channels), GatedConv(out_channels, out_channels)]
            blocks.append(nn.Sequential(*gates, nn.Dropout(params.dropout), nn.MaxPool2d(pool)))
            channels, bands = out_channels, bands // pool[1]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            nn.Conv2d(channels, params.last_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(params.last_channels),
            nn.ReLU(),
            nn.Dropout(params.dropout),
            nn.MaxPool2d(params.last_pool),
        )
        bands //= params.last_pool[1]
        if bands == 0:
            raise ParameterError(f"the pools leave no band of {n_mels} mel bands")
        self.gru = BidirectionalGRU(params.last_channels * bands, params.gru_units)
        self.frame_dense = nn.Linear(2 * params.gru_units, n_classes)
        self.attention_dense = nn.Linear(2 * params.gru_units, n_classes)
        self.sharpness = nn.Parameter(torch.ones(n_classes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict each class in each frame.

        Parameters
        ----------
        features : Tensor, shape (batch, frames, n_mels)
            Log-mel, in dB.

        Returns
        -------
        frame_prob, attention : Tensor, shape (batch, frames / time pooling, classes)
            Both in float32 or wider: near 1, bfloat16 has no room.
        """
        x = ((features - self.mean) / self.std).unsqueeze(1)  # (batch, 1, frames, bands)
        x = self.last(self.blocks(x))  # (batch, channels, frames, bands)
        x = x.permute(0, 2, 1, 3).flatten(2)  # (batch, frames, channels * bands)
        with torch.autocast(x.device.type, enabled=False):  # on CUDA, autocast would run a GRU in float16
            x = x if x.dtype == torch.float64 else x.float()
            u = self.gru(x)  # (batch, frames, 2 * units)
        frame_logit, attention_logit = self.frame_dense(u), self.attention_dense(u)
        if frame_logit.dtype != torch.float64:
            frame_logit, attention_logit = frame_logit.float(), attention_logit.float()
        return frame_logit.sigmoid(), attention_logit.softmax(dim=self.attention_dim)


def layer_table(network: GatedCRNN, *, n_frames: int, n_mels: int) -> list[dict]:
    """Every layer with its output shape (without the batch axis) and its number of parameters.

    Parameters
    ----------
    network : GatedCRNN
    n_frames, n_mels : int
        Size of the input.

    Returns
    -------
    list of dict
        Keys ``layer``, ``kind``, ``output``, ``parameters``, in the order of computation.
    """
    rows: list[dict] = []

    def record(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            out = output[0] if isinstance(output, tuple) else output
            count = sum(parameter.numel() for parameter in module.parameters())
            rows.append(
                {"layer": name, "kind": type(module).__name__, "output": tuple(out.shape[1:]), "parameters": count}
            )

        handles.append(module.register_forward_hook(hook))

    handles: list = []
    for name, module in network.named_modules():
        inside_gate = any(
            isinstance(network.get_submodule(name.rsplit(".", 1)[0]), GatedConv) for _ in [0] if "." in name
        )
        if name and not inside_gate and (isinstance(module, GatedConv) or not list(module.children())):
            record(name, module)
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, n_frames, n_mels, device=network.mean.device))
    network.train(training)
    for handle in handles:
        handle.remove()
    return rows
