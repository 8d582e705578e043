"""The systems' networks, each in a file of its own, built by the section of its parameters (see `networks.base`).

Beside them `networks.own_pooling`: what a user's own file makes of a network's frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpsed_lib import params
from hpsed_lib.networks.base import FrameNetwork
from hpsed_lib.networks.gated_crnn import GatedCRNN
from hpsed_lib.networks.gccaps import GatedCapsules
from hpsed_lib.networks.surrey import SurreyCRNN
from hpsed_lib.networks.wang import WangCRNN

NETWORKS: dict[type[params.Section], Callable[..., FrameNetwork]] = {
    params.GatedCrnn: GatedCRNN,
    params.Surrey: SurreyCRNN,
    params.GcCaps: GatedCapsules,
    params.Wang: WangCRNN,
}
"""The network of each section of `hpsed_lib.params.Network`."""


def build(
    section: params.Network,
    *,
    n_mels: int,
    n_classes: int,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> FrameNetwork:
    """A network with its initial weights; without `mean` and `std`, (n_mels,) in dB, it takes its input as it is."""
    mean = np.zeros(n_mels, dtype=np.float32) if mean is None else mean
    std = np.ones(n_mels, dtype=np.float32) if std is None else std
    return NETWORKS[type(section)](section, n_mels=n_mels, n_classes=n_classes, mean=mean, std=std)
