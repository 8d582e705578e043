"""How far apart the three structures drift when they are trained alike.

The same initial network, the same batches, the same dropout: only the pooling structure differs. What separates
``single`` from ``hierarchical`` after that is rounding; what separates ``appendix`` from both is its gradient.
"""

from __future__ import annotations

import itertools

import pandas as pd
import torch
from torch import Tensor

from hpsed_lib.dataset import Dataset
from hpsed_lib.networks.own_pooling import pooling_function
from hpsed_lib.params import Experiment
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.pooling import STRUCTURES, has_weights
from hpsed_lib.progress import track
from hpsed_lib.training import batches, build_network, clip_loss, epoch_order, predict


def structure_agreement(
    experiment: Experiment, dataset: Dataset, *, pooling: str, dtype: torch.dtype, steps: tuple[int, ...] = (1, 20)
) -> pd.DataFrame:
    """Train the three structures side by side on the CPU, one clip a step, and compare them with ``single``.

    All of it is in `dtype`; after each of the ascending `steps` the first validation clips are compared.

    A row per structure, step and quantity, ``clip_prob`` (of the probe clips, in evaluation mode) or the name of a
    parameter, with the ``largest_difference`` from ``single``, absolute.
    """
    networks = {structure: build_network(experiment, dataset, seed=0).to(dtype) for structure in STRUCTURES[:3]}
    learning_rate = experiment.training.learning_rate
    optimizers = {s: torch.optim.Adam(network.parameters(), lr=learning_rate) for s, network in networks.items()}
    probe = next(batches(dataset.validation, batch_size=8))[0].to(dtype)

    def clip_prob(structure: str, features: Tensor) -> Tensor:
        return predict(networks[structure], features, experiment, pooling=pooling, structure=structure)[1]

    @torch.no_grad()
    def quantities(structure: str) -> dict[str, Tensor]:
        networks[structure].eval()
        return {"clip_prob": clip_prob(structure, probe), **dict(networks[structure].named_parameters())}

    rows = []
    order = epoch_order(dataset.training.weak_target, seed=0, epoch=1)
    stream = (batch for _ in itertools.count() for batch in batches(dataset.training, batch_size=1, order=order))
    progress = track(range(1, steps[-1] + 1), description=f"{pooling}, {dtype}")
    for step, (features, target) in zip(progress, stream, strict=False):
        for structure, network in networks.items():
            torch.manual_seed(step)  # the same dropout for the three
            network.train()
            optimizers[structure].zero_grad()
            clip_loss(clip_prob(structure, features.to(dtype)), target.to(dtype)).backward()
            optimizers[structure].step()
        if step in steps:
            single = quantities("single")
            for structure in STRUCTURES[1:3]:
                for name, value in quantities(structure).items():
                    difference = float((value - single[name]).detach().abs().max())
                    rows.append((pooling, str(dtype).removeprefix("torch."), structure, step, name, difference))
    return pd.DataFrame(rows, columns=["pooling", "dtype", "structure", "step", "quantity", "largest_difference"])


def write_agreement(experiment: Experiment, dataset: Dataset) -> pd.DataFrame:
    """`structure_agreement` of every pooling function in float32 and float64; kept as a result table, and returned."""
    table = pd.concat(
        structure_agreement(experiment, dataset, pooling=pooling, dtype=dtype)
        for pooling in experiment.pooling.functions
        if has_weights(pooling_function(experiment, pooling))
        for dtype in (torch.float32, torch.float64)
    )
    with replacing(results_folder(experiment.name) / "tables" / "structure_agreement.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.3g")
    return table


def agreement_summary(agreement: pd.DataFrame) -> pd.DataFrame:
    """Largest difference of clip_prob and over all parameters: by pooling, dtype, structure and step."""
    what = agreement.quantity.where(agreement.quantity == "clip_prob", "parameters")
    keys = ["pooling", "dtype", "structure"]
    largest = agreement.assign(quantity=what).groupby([*keys, "quantity", "step"], sort=False).largest_difference.max()
    return largest.unstack(["quantity", "step"])
