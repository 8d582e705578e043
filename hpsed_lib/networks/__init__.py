"""The systems' networks, each in a file of its own, built by the section of its parameters (see `networks.base`).

Beside them `networks.own_pooling`: what a user's own file makes of a network's frames.
"""

from __future__ import annotations

from collections.abc import Callable

from hpsed_lib.networks.base import FrameNetwork
from hpsed_lib.networks.gated_crnn import GatedCRNN
from hpsed_lib.networks.gccaps import GatedCapsules
from hpsed_lib.networks.surrey import SurreyCRNN
from hpsed_lib.networks.wang import WangCRNN
from hpsed_lib.params import Network

NETWORKS: dict[str, Callable[..., FrameNetwork]] = {
    "gated_crnn": GatedCRNN,
    "surrey": SurreyCRNN,
    "gccaps": GatedCapsules,
    "wang": WangCRNN,
}
"""The network of each kind of `hpsed_lib.params.Network`."""


def build(section: Network, *, n_mels: int, n_classes: int) -> FrameNetwork:
    """A network with its initial weights, which takes its input as it is until it has a `mean` and `std`."""
    return NETWORKS[section.kind](section, n_mels=n_mels, n_classes=n_classes)
