"""Which way a network's frames are pushed, against the algebra of the theory, frame by frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hpsed_lib.dataset import Dataset
from hpsed_lib.params import Experiment
from hpsed_lib.theory.directions import directions
from hpsed_lib.theory.dynamics import loss_gradient
from hpsed_lib.training import build_network


@pytest.mark.parametrize("pooling", ["linear", "attention"])
def test_pushes_are_those_of_the_algebra(tiny: Experiment, tiny_dataset: Dataset, pooling: str) -> None:
    network, split = build_network(tiny, tiny_dataset, seed=0).eval(), tiny_dataset.test
    table = directions(network, split, tiny_dataset.classes, tiny, pooling=pooling)
    with torch.no_grad():
        frame_prob, logit = (values.double().numpy() for values in network(torch.from_numpy(split.features[:])))
    weight = np.exp(logit) / np.exp(logit).sum(axis=2, keepdims=True)
    quantities = {"frame_prob": "dL/dx"} | ({"attention": "dL/dw"} if pooling == "attention" else {})
    assert set(table.quantity) == set(quantities)
    centres = (np.arange(tiny.n_output_frames) + 0.5) * tiny.frame_duration
    for structure, (quantity, derivative) in itertools.product(("single", "appendix"), quantities.items()):
        options = {"pooling": pooling, "structure": structure, "segment_lengths": tiny.pooling.segment_lengths}
        pushed: dict[str, list[float]] = {"inside": [], "beside": [], "absent": []}
        for clip, column in np.ndindex(split.weak_target.shape):
            x, w = frame_prob[clip, :, column], weight[clip, :, column]
            target = int(split.weak_target[clip, column] > 0)
            gradient = loss_gradient(x, target, quantity=derivative, attention=w, **options)
            slope = -gradient * (x * (1 - x) if quantity == "frame_prob" else w)
            events, label = split.strong_labels, tiny_dataset.classes[column]
            events = events[(events.filename == split.filenames[clip]) & (events.event_label == label)]
            inside = np.zeros(len(centres), dtype=bool)
            for onset, offset in zip(events.onset, events.offset, strict=True):
                inside |= (onset <= centres) & (centres < offset)
            pushed["inside"] += [*slope[inside]]
            pushed["beside" if target else "absent"] += [*slope[~inside]]
        rows = table[(table.gradient == structure) & (table.quantity == quantity)].set_index("where")
        for where, values in pushed.items():
            assert rows.n_frames[where] == len(values)
            assert rows.up[where] == pytest.approx(np.mean(np.array(values) > 0), abs=2 / len(values))
            assert rows.push[where] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-7)
