"""Wang and Metze's network of 2018: a small CRNN whose clip probability is ``linear`` softmax. It has no attention."""

from __future__ import annotations

from torch import Tensor, nn

from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, wide
from hpsed_lib.networks.gru import BidirectionalGRU
from hpsed_lib.params import Wang

POOLS = ((1, 2), (2, 2), (2, 2))  # (time, frequency)


class WangCRNN(FrameNetwork):
    """Three 5x5 convolutions, each with ReLU and max-pooling, a Bi-GRU, and a dense layer with sigmoid.

    References
    ----------
    Wang, Li, Metze: A comparison of five multiple instance learning pooling functions for sound event detection with
    weak labeling, arXiv:1810.09050, and its published code (not TALNet, which is another). Weights start as Glorot and
    orthogonal ones, biases at 0.
    """

    convolutions = ("convolution",)

    def __init__(self, params: Wang, *, n_mels: int, n_classes: int) -> None:
        super().__init__(n_mels=n_mels, n_classes=n_classes)
        if n_mels < 8:
            raise ParameterError(f"the pools leave no band of {n_mels} mel bands; it takes 8 at least")
        layers: list[nn.Module] = []
        channels = 1
        for out_channels, pool in zip(map(params.scaled, (32, 64, 128)), POOLS, strict=True):
            layers += [nn.Conv2d(channels, out_channels, 5, padding=2), nn.ReLU(), nn.MaxPool2d(pool)]
            channels = out_channels
        self.convolution = nn.Sequential(*layers)
        self.gru = BidirectionalGRU(channels * (n_mels // 8), params.scaled(100))
        self.frame_dense = nn.Linear(2 * params.scaled(100), n_classes)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            elif "weight_hh" in name:
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            elif "weight" in name:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """Each class in each of its frames, (batch, frames / 4, classes), from log-mel (batch, frames, n_mels)."""
        x = self.convolved(features)  # (batch, channels, frames, bands)
        u = self.gru(x.permute(0, 2, 1, 3).flatten(2))  # (batch, frames, 2 * units)
        return wide(self.frame_dense(u)).sigmoid(), None
