"""What an experiment will take here, for ``make plan``.

A short calibration trains the experiment's own network on random input of the right shape, and extracts features of
noise, in as many processes as runs would be trained at once. The rest is arithmetic. Times are in seconds, sizes in
bytes. Training may stop early, so that its times are upper bounds; other work on the machine makes them longer.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from timeit import timeit
from typing import NamedTuple

import numpy as np
import psutil
import torch
from tqdm import tqdm

from hpsed_lib.errors import ParameterError
from hpsed_lib.features import log_mel
from hpsed_lib.launch.gpus import runs_on_gpus
from hpsed_lib.launch.workflow import available_cores
from hpsed_lib.networks import build
from hpsed_lib.params import SPLITS, Dcase2017Data, Experiment, Soundscapes
from hpsed_lib.paths import cache_folder, read_json
from hpsed_lib.training import clip_loss, predict, prepare_for_training, select_device

MEASURED_CLIPS = 8  # in a batch on the CPU, at most: what a larger one takes is in proportion
MEASURED_SECONDS = 10.0  # of training steps, and at least three of them
MEMORY_TO_MEASURE = 4e9  # bytes that must be free for each process that measures
PREDICTION = 0.4  # of a training step: 0.32 of the `paper` network's, 0.41 of the narrow ones'
RUN_OVERHEAD = 15.0  # s of a run outside training, for starting and scoring; `quick` on one idle core
MEBIBYTE = 2**20  # bytes
N_CLASSES = {"esc10": 10, "esc50": 50}  # others: the 17 of DCASE 2017 Task 4
DCASE2017_CLIPS = {"training": 51_172, "development": 488, "evaluation": 1_103}  # as published


class Calibration(NamedTuple):
    """What was measured: seconds for a clip, a run's bytes, GPU memory aside, and the parameters of the network."""

    training: float
    features: float
    memory: float
    n_parameters: float


def calibrate(experiment: Experiment, seconds: float = MEASURED_SECONDS) -> Calibration:
    """Train the last of the variants for so many seconds, and extract the features of a clip."""

    def step() -> None:
        _, clip_prob = predict(network, features, experiment, pooling=pooling, structure=structure)
        optimizer.zero_grad(set_to_none=True)
        loss = clip_loss(clip_prob, target)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU

    torch.set_num_threads(experiment.resources.threads)
    pooling, structure = experiment.pooling.variants[-1]
    device = select_device(experiment.training.device)
    n_mels, batch_size = experiment.features.n_mels, experiment.training.batch_size
    n_clips = batch_size if device.type != "cpu" else min(batch_size, MEASURED_CLIPS)
    noise = torch.rand(round(experiment.data.clip_duration * experiment.data.sample_rate)).numpy() - 0.5
    extract = partial(log_mel, noise, sr=experiment.data.sample_rate, params=experiment.features)
    features = torch.randn(n_clips, experiment.n_frames, n_mels).to(device)
    target = (torch.rand(n_clips, N_CLASSES.get(experiment.data.source, 17)) < 0.1).float().to(device)
    network = build(experiment.network, n_mels=n_mels, n_classes=target.shape[1]).to(device)
    network = prepare_for_training(network, experiment.training)
    optimizer = torch.optim.Adam(network.parameters(), lr=experiment.training.learning_rate)
    before = float(psutil.Process().memory_info().rss)
    step()  # the first one takes longer
    steps: list[float] = []
    while len(steps) < 3 or sum(steps) < seconds:
        steps.append(timeit(step, number=1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Calibration(
        training=float(np.mean(steps)) / n_clips,
        features=timeit(extract, extract, number=5) / 5,  # the first one builds the filters
        memory=before + max(0, peak - before) * batch_size / n_clips,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def clip_counts(experiment: Experiment) -> dict[str, int]:
    """Number of clips in each split, as prepared, or else as the experiment says."""
    data, prepared = experiment.data, cache_folder(experiment.name) / "data.json"
    if prepared.is_file():
        report = read_json(prepared)["report"]
        return {split: count["used"] for split, count in report.items()}
    if isinstance(data, Soundscapes):
        return data.n_clips.model_dump()
    if isinstance(data, Dcase2017Data):
        n_validation = round(data.validation_share * DCASE2017_CLIPS["training"])
        numbers = DCASE2017_CLIPS["training"] - n_validation, n_validation, DCASE2017_CLIPS[data.test_set]
        return dict(zip(SPLITS, numbers, strict=True))
    raise ParameterError(f"{experiment.name}: its number of clips is known once notebook 01 has run; run that first")


class Plan(NamedTuple):
    """Seconds for all features, a run and everything, bytes in memory of runs at once, and on disk by kind of file."""

    data: float
    run: float
    total: float
    memory: float
    disk: dict[str, float]


def make_plan(
    experiment: Experiment, measured: Calibration, counts: dict[str, int], *, at_once: int, cores: int
) -> Plan:
    """Reckon an experiment's time, memory and disk, with `at_once` runs and features on `cores` at a time."""
    n_runs, n_clips = len(experiment.runs()), sum(counts.values())
    n_evaluated = counts["validation"] + counts["test"]
    epoch = counts["training"] + PREDICTION * counts["validation"]  # in training steps of one clip
    steps = experiment.training.max_epochs * epoch + PREDICTION * n_evaluated
    data, run = n_clips * measured.features / cores, steps * measured.training + RUN_OVERHEAD
    made_here = isinstance(experiment.data, Soundscapes)
    disk = {  # 16-bit WAV; 32-bit features; weights, the best ones, and Adam's two moments
        "soundscapes": made_here * n_clips * 2 * experiment.data.clip_duration * experiment.data.sample_rate,
        "features": n_clips * 4 * experiment.n_frames * experiment.features.n_mels,
        "checkpoints": n_runs * 4 * 4 * measured.n_parameters,
    }
    return Plan(data, run, data + -(-n_runs // at_once) * run, at_once * measured.memory, disk)


def describe(experiment: Experiment, measured: Calibration, plan: Plan, *, at_once: int) -> str:
    """The plan as text: what is to be expected, what was measured, and what there may be too little of."""
    time, size = tqdm.format_interval, partial(tqdm.format_sizeof, suffix="B")
    batch, n_epochs, asked = experiment.training.batch_size, experiment.training.max_epochs, experiment.resources
    lines = [
        f"{experiment.name}: {len(experiment.runs())} runs of {n_epochs} epochs, {at_once} at a time",
        f"  time    {time(plan.total)} at most: data {time(plan.data)}, then {time(plan.run)} a run",
        f"  memory  {size(plan.memory)}: {size(measured.memory)} a run",
        f"  disk    {size(sum(plan.disk.values()))}: "
        + ", ".join(f"{kind} {size(n)}" for kind, n in plan.disk.items()),
        f"params/{experiment.name}.yaml asks for {time(60 * asked.run_time)} and {size(MEBIBYTE * asked.memory)} a run",
        f"measured: training step of {batch} clips {1000 * batch * measured.training:.0f} ms, "
        f"features of one {1000 * measured.features:.1f} ms",
        f"not measured: {RUN_OVERHEAD:.0f} s a run for starting and scoring; making, fetching or reading the clips; "
        "notebooks 02, 04, 05 and 07",
    ]
    if measured.memory > MEBIBYTE * asked.memory or plan.run > 60 * asked.run_time:
        lines.append("a run may take more than the experiment asks for: see its resources")
    if plan.memory > (there := psutil.virtual_memory().total):
        lines.append(f"more memory than there is here, {size(there)}: give fewer CORES")
    return "\n".join(lines)


def runs_at_once(experiment: Experiment, cores: int) -> tuple[int, int]:
    """Runs that are trained at once, and processes that measure at once: on a GPU one, which has it for itself."""
    n_runs = len(experiment.runs())
    if select_device(experiment.training.device).type != "cpu":
        return min(n_runs, runs_on_gpus()), 1
    at_once = min(max(1, cores // experiment.resources.threads), n_runs)
    return at_once, min(at_once, max(1, int(psutil.virtual_memory().available // MEMORY_TO_MEASURE)))


def plan_here(experiment: Experiment, cores: int | None) -> str:
    """Measure, and say what the experiment takes with so many runs at a time, or as many as there are cores."""
    cores, counts = available_cores() if cores is None else cores, clip_counts(experiment)
    if cores < 1:
        raise ParameterError(f"CORES must be 1 or more, got {cores}")
    at_once, n_processes = runs_at_once(experiment, cores)
    with ProcessPoolExecutor(n_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        each = list(pool.map(calibrate, [experiment] * n_processes))
    measured = Calibration(*np.mean(each, axis=0).tolist())
    plan = make_plan(experiment, measured, counts, at_once=at_once, cores=cores)
    return describe(experiment, measured, plan, at_once=at_once)
