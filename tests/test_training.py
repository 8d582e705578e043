"""Training: determinism, early stopping, and a killed run that ends with the same numbers."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
import torch._dynamo

from hpsed_lib import training
from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Experiment
from hpsed_lib.theory.agreement import structure_agreement
from hpsed_lib.training import (
    Trained,
    batches,
    build_network,
    epoch_order,
    evaluate_loss,
    learning_rate,
    predict,
    train,
)

VARIANT = {"pooling": "linear", "structure": "hierarchical", "seed": 0}


def longer(experiment: Experiment, **changes: object) -> Experiment:
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=changes)})


def assert_same(one: Trained, other: Trained) -> None:
    columns = ["epoch", "training_loss", "validation_loss"]
    assert one.history[columns].equals(other.history[columns])  # to the last bit
    assert one.best_epoch == other.best_epoch
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name


@pytest.fixture(scope="module")
def trained(tiny, tiny_dataset, tmp_path_factory):
    return train(longer(tiny, max_epochs=4), tiny_dataset, folder=tmp_path_factory.mktemp("run"), **VARIANT)


def test_the_same_seed_gives_the_same_numbers(tiny, tiny_dataset, trained, tmp_path):
    assert_same(trained, train(longer(tiny, max_epochs=4), tiny_dataset, folder=tmp_path, **VARIANT))
    other = train(tiny, tiny_dataset, folder=tmp_path / "1", **{**VARIANT, "seed": 1})
    assert other.history.training_loss[0] != trained.history.training_loss[0]


def test_other_threads_outside_make_no_other_run(tiny, tiny_dataset, tmp_path):
    train(tiny, tiny_dataset, folder=tmp_path, **VARIANT)
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    torch.set_num_threads(3)  # as in JupyterLab
    train(tiny, tiny_dataset, folder=tmp_path, **VARIANT)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == written
    assert torch.get_num_threads() == tiny.resources.threads == 1


def test_the_loss_of_an_epoch_is_the_mean_over_clips(tiny, tiny_dataset):
    network = build_network(tiny, tiny_dataset, seed=0).eval()
    in_batches = evaluate_loss(network, tiny_dataset.training, tiny, pooling="linear", structure="single")
    features, target = next(batches(tiny_dataset.training, batch_size=100))
    with torch.no_grad():
        _, clip_prob = predict(network, features, tiny, pooling="linear", structure="single")
    assert in_batches == pytest.approx(float(training.clip_loss(clip_prob, target)), rel=1e-5)


def test_an_epoch_sees_every_clip_once_in_its_own_order():
    weak_target = np.zeros((50, 3))
    orders = [epoch_order(weak_target, seed=0, epoch=epoch) for epoch in (1, 2, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != epoch_order(weak_target, seed=1, epoch=1)).any()


def test_balancing_draws_the_commonest_class_at_most_so_many_times_as_often():
    sizes = [3000, 300, 30, 0]  # and 20 clips without a class, which are no measure of rarity
    weak_target = np.repeat(np.eye(5, 4), [*sizes, 20], axis=0)
    weak_target[0] = [1, 1, 0, 0]  # a clip of two classes may be drawn for either
    expected = np.array([150, 150, 30, 20]) / 350  # 3000 and 300 count as 5 times 30
    order = epoch_order(weak_target, seed=0, epoch=3, balance_ratio=5)
    assert len(order) == len(weak_target)
    group = np.repeat([0, 1, 2, 3], [3000, 300, 30, 20])[order]
    np.testing.assert_allclose(np.bincount(group) / len(order), expected, atol=0.03)
    for label in range(4):  # no clip comes again before every other of its class has come
        of_group = order[(group == label) & (order != 0)]  # clip 0 is drawn for two
        rows, times = np.unique(of_group, return_counts=True)
        assert times.max() - times.min() <= 1
        assert len(rows) == [len(of_group), 300, 30, 20][label]
    assert (order == epoch_order(weak_target, seed=0, epoch=3, balance_ratio=5)).all()
    assert (order != epoch_order(weak_target, seed=0, epoch=4, balance_ratio=5)).any()
    as_they_lie = epoch_order(weak_target, seed=0, epoch=1, balance_ratio=1000)
    assert (as_they_lie < 3000).mean() == pytest.approx(3000 / 3350, abs=0.03)


def test_the_learning_rate_goes_as_torchs_schedulers_let_it_go(tiny):
    changes = {"learning_rate": 0.005, "schedule": "cosine", "warmup_epochs": 2, "max_epochs": 7}
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.005)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 20, total_iters=19)  # ten steps an epoch
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[19])
    for step in range(1, 71):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(longer(tiny, **changes).training, step / 10) == pytest.approx(expected, abs=1e-9)
        optimizer.step()
        both.step()
    constant = longer(tiny, **changes | {"schedule": "constant"}).training
    assert [learning_rate(constant, n_epochs) for n_epochs in (1, 2, 7)] == [0.0025, 0.005, 0.005]


@pytest.mark.parametrize(
    ("change", "value"), [("loader_workers", 2), ("channels_last", True), ("compile", True), ("balance_ratio", 5.0)]
)
def test_what_makes_training_faster_or_fairer_trains(tiny, tiny_dataset, trained, tmp_path, change, value):
    if change == "compile" and shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    experiment = longer(tiny, max_epochs=4, **{change: value})
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):  # where it is hit, the rest is not compiled
        result = train(experiment, tiny_dataset, folder=tmp_path, **VARIANT)
    if change == "loader_workers":
        assert_same(trained, result)
    elif change == "balance_ratio":
        assert result.history.training_loss[0] != trained.history.training_loss[0]
    else:  # the same numbers but for rounding
        np.testing.assert_allclose(result.history.training_loss, trained.history.training_loss, rtol=3e-3)
    assert set(result.network.state_dict()) == set(trained.network.state_dict())
    assert train(experiment, tiny_dataset, folder=tmp_path, **VARIANT).history.equals(result.history)


def test_training_lowers_the_loss(tiny, tiny_dataset, tmp_path):
    history = train(longer(tiny, max_epochs=8, learning_rate=0.01), tiny_dataset, folder=tmp_path, **VARIANT).history
    assert history.training_loss.iloc[-1] < 0.9 * history.training_loss.iloc[0]


def test_early_stopping_keeps_the_best_weights(tiny, tiny_dataset, tmp_path, monkeypatch):
    losses = iter([0.5, 0.4, 0.45, 0.41, 0.3, 0.2])
    weights = []

    def fake_loss(network: torch.nn.Module, *_: object, **__: object) -> float:
        weights.append(network.state_dict()["frame_dense.weight"].clone())
        return next(losses)

    monkeypatch.setattr(training, "evaluate_loss", fake_loss)
    result = train(longer(tiny, max_epochs=6, patience=2), tiny_dataset, folder=tmp_path, **VARIANT)
    assert result.history.validation_loss.to_list() == [0.5, 0.4, 0.45, 0.41]
    assert result.best_epoch == 2
    assert torch.equal(result.network.state_dict()["frame_dense.weight"], weights[1])


def test_a_run_stopped_between_epochs_goes_on(tiny, tiny_dataset, trained, tmp_path, monkeypatch):
    n_batches = 0

    def stop_in_the_third_epoch(network: torch.nn.Module, *arguments: object, **options: object) -> object:
        nonlocal n_batches
        n_batches += network.training
        if n_batches == 6:  # an epoch is two
            raise KeyboardInterrupt
        return predict(network, *arguments, **options)  # type: ignore[arg-type]

    experiment = longer(tiny, max_epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(training, "predict", stop_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, tiny_dataset, folder=tmp_path, **VARIANT)
    torch.rand(100)  # the random state is another by now
    resumed = train(experiment, tiny_dataset, folder=tmp_path, **VARIANT)
    assert resumed.resumed_after == [2]
    assert_same(trained, resumed)
    loaded = train(experiment, tiny_dataset, folder=tmp_path, **VARIANT)  # done: nothing is trained again
    assert loaded.resumed_after == [2]
    assert_same(trained, loaded)


CHANGES = ["learning_rate", "classes", "training_checksum", "sample_rate", "clip_duration", "damage", "checksum"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_something_else_is_not_resumed(tiny, tiny_dataset, tmp_path, capsys, change):
    train(tiny, tiny_dataset, folder=tmp_path, **VARIANT)
    capsys.readouterr()
    experiment, data = tiny, tiny_dataset
    if change == "damage":
        (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    elif change == "learning_rate":
        experiment = longer(tiny, learning_rate=0.001)
    elif change in ("sample_rate", "clip_duration"):
        changed = tiny.data.model_copy(update={change: 2 * getattr(tiny.data, change)})
        experiment = tiny.model_copy(update={"data": changed})
    else:
        data = dataclasses.replace(data, **{change: data.classes[::-1] if change == "classes" else "other"})
    again = train(experiment, data, folder=tmp_path, **VARIANT)
    said = capsys.readouterr().out
    if change == "checksum":  # of all clips: on those for the test nothing depends
        assert said == ""
    else:
        assert ("checkpoint.pt cannot be read" if change == "damage" else "training starts anew") in said
    assert (len(again.history), again.resumed_after) == (tiny.training.max_epochs, [])


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert training.select_device("auto").type == "cpu"
    with pytest.raises(ParameterError, match="'cuda', and there is none"):
        training.select_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training.select_device("auto").type == "cuda"


@pytest.mark.parametrize("pooling", ["linear", "attention"])
def test_single_and_hierarchical_differ_by_rounding_and_appendix_does_not(tiny, tiny_dataset, pooling):
    table = structure_agreement(tiny, tiny_dataset, pooling=pooling, dtype=torch.float64, steps=(1, 3))
    largest = table.groupby(["structure", "step"]).largest_difference.max()
    assert largest["hierarchical", 1] < 1e-8
    assert largest["hierarchical", 3] < 1e-6
    assert largest["appendix", 1] > 1e-5
    names = {name for name, _ in build_network(tiny, tiny_dataset, seed=0).named_parameters()}
    assert set(table.quantity) == names | {"clip_prob"}
    assert np.isfinite(table.largest_difference).all()
