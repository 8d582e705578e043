"""Surrey's system of DCASE 2017 Task 4, one model of its ensemble: a gated CRNN without pooling in time.

Its clip probability is ``attention`` pooling, a softmax over classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, GatedConv, wide
from hpsed_lib.networks.gru import BidirectionalGRU
from hpsed_lib.params import Surrey


class SurreyCRNN(FrameNetwork):
    """Gated convolutions, and two recurrent layers of which one gates the other.

    References
    ----------
    Xu, Kong, Wang, Plumbley: SurreyCVSSP system for DCASE2017 challenge task4, arXiv:1709.00551 (the paper's reference
    [15]), and its published code, with all eight gated convolutions in use (the code as it stands skips the last two).
    The recurrent layers' candidate states have a linear and a sigmoid activation. Not followed: the attention clipped
    at 1e-7; Keras's GRU, which has a bias less, resets before its product and has a hard sigmoid.
    """

    convolutions = ("blocks", "last")

    def __init__(self, params: Surrey, *, n_mels: int, n_classes: int) -> None:
        super().__init__(n_mels=n_mels, n_classes=n_classes)
        bands = n_mels // 2**4 // 4
        if bands == 0:
            raise ParameterError(f"the pools leave no band of {n_mels} mel bands; it takes 64 at least")
        width, last, units = params.scaled(64), params.scaled(256), params.scaled(128)
        blocks = [
            nn.Sequential(GatedConv(channels, width), GatedConv(width, width), nn.MaxPool2d((1, 2)))
            for channels in (1, width, width, width)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Conv2d(width, last, 3, padding=1), nn.ReLU(), nn.MaxPool2d((1, 4)))
        self.gru = BidirectionalGRU(last * bands, units, activation="linear")
        self.gru_gate = BidirectionalGRU(last * bands, units, activation="sigmoid")
        self.frame_dense = nn.Linear(2 * units, n_classes)
        self.attention_dense = nn.Linear(2 * units, n_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Each class in each frame, from log-mel (batch, frames, n_mels): (batch, frames, classes), twice."""
        x = self.convolved(features)  # (batch, channels, frames, bands)
        x = x.permute(0, 2, 1, 3).flatten(2)  # (batch, frames, channels * bands)
        u = self.gru(x) * self.gru_gate(x)  # (batch, frames, 2 * units)
        return wide(self.frame_dense(u)).sigmoid(), wide(self.attention_dense(u))
