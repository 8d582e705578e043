"""Which frames of a network the gradient of the loss pushes up, and which down, and where these lie.

`hpsed_lib.theory.dynamics` says it of any frames, by algebra; this measures it on those of a network in training. Needs
clips with strong labels, which the training itself never sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from hpsed_lib.dataset import Dataset, Split
from hpsed_lib.errors import DataError
from hpsed_lib.networks import FrameNetwork
from hpsed_lib.networks.own_pooling import pooling_function
from hpsed_lib.params import Experiment, run_name
from hpsed_lib.pooling import pool
from hpsed_lib.runs import run_folder
from hpsed_lib.scoring import places
from hpsed_lib.training import batches, clip_loss, train


def directions(
    network: FrameNetwork,
    split: Split,
    classes: Sequence[str],
    experiment: Experiment,
    *,
    pooling: str,
) -> pd.DataFrame:
    """How the loss's gradient pushes the frames of a network, under ``single`` and under ``appendix``.

    Returns
    -------
    DataFrame with columns gradient, quantity, where, n_frames, up, push
        ``gradient``: the structure; ``quantity``: ``frame_prob``, or ``attention``, the weight before it is normalised
        over frames, where the pooling function has one; ``where``: see `hpsed_lib.scoring.places`. ``up`` is the share
        of frames that a step along the negative gradient raises, ``push`` the mean of ``-dL/dx x (1 - x)``, or of
        ``-dL/dw w``: the slope in the logit. L is the loss of one clip, all classes (Eq. A-1).
    """
    network.eval()
    pushes: dict[tuple[str, str], list[np.ndarray]] = {}
    for features, target in batches(split, batch_size=experiment.training.batch_size, device=network.mean.device):
        with torch.no_grad():
            frame_prob, attention_logit = network(features)
            attention = None if attention_logit is None else attention_logit.softmax(2)
        given = {"frame_prob": frame_prob, "attention": attention}
        inputs = {name: values.requires_grad_() for name, values in given.items() if values is not None}
        for structure in ("single", "appendix"):
            clip_prob = pool(
                frame_prob,
                attention,
                network.sharpness,
                attention_logit,
                pooling=pooling_function(experiment, pooling),
                structure=structure,
                segment_lengths=experiment.pooling.segment_lengths,
            )
            loss = clip_loss(clip_prob, target) * target.numel()
            found = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
            for (name, values), gradient in zip(inputs.items(), found, strict=True):
                if gradient is not None:
                    slope = values * (1 - values) if name == "frame_prob" else values
                    pushes.setdefault((structure, name), []).append((-gradient * slope).detach().cpu().numpy())
    where = places(
        split.strong_labels,
        split.weak_target > 0,
        filenames=split.filenames,
        classes=classes,
        n_frames=experiment.n_output_frames,
        frame_duration=experiment.frame_duration,
    )
    rows = []
    for key, parts in pushes.items():
        for place, frames in where.items():
            chosen = np.concatenate(parts)[frames]
            rows.append((*key, place, len(chosen), (chosen > 0).mean(), float(chosen.mean())))
    return pd.DataFrame(rows, columns=["gradient", "quantity", "where", "n_frames", "up", "push"])


def watch(experiment: Experiment, dataset: Dataset, *, pooling: str, structure: str, seed: int) -> pd.DataFrame:
    """Train a variant, as its run with this seed, and ask for `directions` on the tuning clips after every epoch.

    Returned with the columns trained_as, the structure, and epoch; a `DataError` if there are no tuning clips.
    """
    if dataset.tuning is None:
        raise DataError(f"{experiment.name}: no clips with strong labels beside the test clips")
    tuning, found = dataset.tuning, []

    def look(epoch: int, network: FrameNetwork) -> None:
        table = directions(network, tuning, dataset.classes, experiment, pooling=pooling)
        found.append(table.assign(trained_as=structure, epoch=epoch))

    folder = run_folder(experiment, f"{run_name(pooling, structure, seed)}-watched")
    (folder / "checkpoint.pt").unlink(missing_ok=True)  # of a training gone on with, the first epochs are not seen
    train(experiment, dataset, pooling=pooling, structure=structure, seed=seed, folder=folder, after_epoch=look)
    return pd.concat(found, ignore_index=True)
