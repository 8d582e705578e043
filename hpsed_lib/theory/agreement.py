"""How far apart the three structures drift when they are trained alike.

The same initial network, the same batches, the same dropout: only the pooling structure differs. What separates
``single`` from ``hierarchical`` after that is rounding; what separates ``appendix`` from both is its gradient.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from hpsed_lib.dataset import Dataset
from hpsed_lib.network import GatedCRNN
from hpsed_lib.params import Experiment
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.pooling import pool
from hpsed_lib.progress import track
from hpsed_lib.training import batches, build_network, clip_loss, epoch_order


def structure_agreement(
    experiment: Experiment,
    dataset: Dataset,
    *,
    pooling: str,
    dtype: torch.dtype,
    batch_size: int = 1,
    steps: tuple[int, ...] = (1, 20),
) -> pd.DataFrame:
    """Train the three structures side by side on the CPU and compare them with ``single``.

    Parameters
    ----------
    experiment : Experiment
        Its network, segment lengths and learning rate are used.
    dataset : Dataset
        Training clips for the steps; the first validation clips to compare clip probabilities on.
    pooling : str
        Pooling function.
    dtype : torch.dtype
        float32 or float64, for everything.
    batch_size : int
        Clips per step.
    steps : tuple of int
        After which optimisation steps to compare, ascending.

    Returns
    -------
    DataFrame with columns pooling, dtype, structure, step, quantity, largest_difference
        ``quantity`` is ``clip_prob`` (of the probe clips, in evaluation mode) or the name of a parameter;
        ``largest_difference`` is the largest absolute difference from ``single``.
    """
    networks, trainers = {}, {}
    for structure in ("single", "hierarchical", "appendix"):
        network = build_network(experiment, dataset, seed=0).to(dtype)
        networks[structure] = network
        trainers[structure] = torch.optim.Adam(network.parameters(), lr=experiment.training.learning_rate)
    probe = next(batches(dataset.validation, batch_size=8))[0].to(dtype)
    rows: list[dict] = []
    order = epoch_order(dataset.training.weak_target, seed=0, epoch=1)
    needed = -(-steps[-1] * batch_size // len(order))
    stream = (batch for _ in range(needed) for batch in batches(dataset.training, batch_size=batch_size, order=order))
    progress = track(range(1, steps[-1] + 1), description=f"{pooling}, {dtype}")
    for step, (features, target) in zip(progress, stream, strict=False):
        for structure, network in networks.items():
            torch.manual_seed(step)  # the same dropout for the three
            network.train()
            clip_prob = _clip_prob(network, features.to(dtype), experiment, pooling, structure)
            trainers[structure].zero_grad()
            clip_loss(clip_prob, target.to(dtype)).backward()
            trainers[structure].step()
        if step in steps:
            rows += _differences(networks, probe, experiment, pooling, step)
    table = pd.DataFrame(rows)
    table.insert(1, "dtype", str(dtype).removeprefix("torch."))
    return table


def write_agreement(experiment: Experiment, dataset: Dataset) -> pd.DataFrame:
    """`structure_agreement` of every pooling function in float32 and float64, kept for the result tables.

    Returns
    -------
    DataFrame
        What ``results/<experiment>/tables/structure_agreement.csv`` holds.
    """
    table = pd.concat(
        structure_agreement(experiment, dataset, pooling=pooling, dtype=dtype)
        for pooling in experiment.pooling.functions
        for dtype in (torch.float32, torch.float64)
    )
    with replacing(results_folder(experiment.name) / "tables" / "structure_agreement.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.3g")
    return table


def agreement_summary(agreement: pd.DataFrame) -> pd.DataFrame:
    """Largest difference from ``single``: clip_prob, and over all parameters, by pooling, dtype, structure and step.

    Parameters
    ----------
    agreement : DataFrame
        Rows of `structure_agreement`.
    """
    what = agreement.quantity.where(agreement.quantity == "clip_prob", "parameters")
    keys = ["pooling", "dtype", "structure"]
    largest = agreement.assign(quantity=what).groupby([*keys, "quantity", "step"], sort=False).largest_difference.max()
    return largest.unstack(["quantity", "step"])


def _clip_prob(network: GatedCRNN, features: Tensor, experiment: Experiment, pooling: str, structure: str) -> Tensor:
    frame_prob, attention = network(features)
    lengths = experiment.pooling.segment_lengths
    return pool(frame_prob, attention, network.sharpness, pooling=pooling, structure=structure, segment_lengths=lengths)


@torch.no_grad()
def _differences(
    networks: dict[str, GatedCRNN], probe: Tensor, experiment: Experiment, pooling: str, step: int
) -> list[dict]:
    quantities = {}
    for structure, network in networks.items():
        network.eval()
        clip_prob = _clip_prob(network, probe, experiment, pooling, structure)
        quantities[structure] = {"clip_prob": clip_prob, **dict(network.named_parameters())}
    return [
        {
            "pooling": pooling,
            "structure": structure,
            "step": step,
            "quantity": name,
            "largest_difference": float((value - quantities["single"][name]).abs().max()),
        }
        for structure in ("hierarchical", "appendix")
        for name, value in quantities[structure].items()
    ]
