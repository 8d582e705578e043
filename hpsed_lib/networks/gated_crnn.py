"""The gated convolutional recurrent network (Sec. 2.1, Figs. 2 and 3); 12.5 frames a second for the paper's 50."""

from __future__ import annotations

from torch import Tensor, nn

from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, GatedConv, wide
from hpsed_lib.networks.gru import BidirectionalGRU
from hpsed_lib.params import GatedCrnn


class GatedCRNN(FrameNetwork):
    """Gated CRNN: frame-level probabilities, and the logits of attention pooling.

    References
    ----------
    Figs. 2 and 3: four blocks of two gated convolutions, batch norm, dropout and max-pooling; one more convolution;
    channels stacked on the frequency axis; a Bi-GRU; a dense layer with sigmoid. The attention's dense layer has the
    same input (Sec. 2.2); what becomes of it is the pooling function's matter (`hpsed_lib.pooling`).
    """

    convolutions = ("blocks", "last")

    def __init__(self, params: GatedCrnn, *, n_mels: int, n_classes: int) -> None:
        super().__init__(n_mels=n_mels, n_classes=n_classes)
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

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Each class in each of its frames, (batch, frames / time pooling, classes), from log-mel, as in the others."""
        x = self.convolved(features)  # (batch, channels, frames, bands)
        u = self.gru(x.permute(0, 2, 1, 3).flatten(2))  # (batch, frames, 2 * units)
        return wide(self.frame_dense(u)).sigmoid(), wide(self.attention_dense(u))
