"""What a GPU does with all of this: ``make gpu``, in at most eight minutes, with PyTorch, numpy and little else.

Pooling, gradients, network and short trainings must agree with the CPU's within stated tolerances, and a run that was
cut short go on. Measured are the training step at the paper's width in several forms, as a share of what the card
reaches in a matrix product; narrow runs side by side; transfer. After each part ``gpu.json`` is written anew, so that
whatever ends it early loses nothing; a part that fails says so in its place. Trainings are of random features. With
``--device cpu`` it is done in a small way, without what only a card has.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpsed_lib import IS_PINNED, provenance  # before numpy and PyTorch

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hpsed_lib import training
from hpsed_lib.bench.steps import random_data, stepper, with_training
from hpsed_lib.networks import FrameNetwork
from hpsed_lib.params import Experiment, load_experiment
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.pooling import POOLINGS, STRUCTURES, has_weights, pool

Differences = Iterator[tuple[str, str, float]]  # the check, where, and how far the device is from the CPU
ARMS = [(name, each) for name in POOLINGS for each in (STRUCTURES if has_weights(name) else ("single",))]
TOLERANCES = {  # largest differences from the CPU: absolute, of probabilities, in proportion for gradients and losses
    "pooling, float32 against float64": 1e-5,
    "gradients, float32 against float64": 1e-4,
    "network, float32": 1e-4,
    "network, bfloat16 autocast": 0.05,
    "losses of a short training": 0.05,
    "losses of a run that was cut short": 1e-3,
    "losses, channels last": 0.05,
    "losses, compiled": 0.05,
}


def check_pooling(device: torch.device) -> Differences:
    """Every pooling function and structure, and its gradient by the frames."""
    x, logit = torch.rand(4, 125, 17, dtype=torch.float64), torch.randn(4, 125, 17, dtype=torch.float64)
    for pooling, structure in ARMS:
        found = []
        for kind, place in ((torch.float64, torch.device("cpu")), (torch.float32, device)):
            frames, logits = x.to(place, kind, copy=True).requires_grad_(), logit.to(place, kind)
            beside = (logits.softmax(2), torch.ones(17, device=place, dtype=kind), logits)
            y = pool(frames, *beside, pooling=pooling, structure=structure)
            y.square().sum().backward()
            found.append([value.detach().cpu().double() for value in (y, frames.grad) if value is not None])
        (y, gradient), (ours, our_gradient) = found
        yield "pooling, float32 against float64", f"{pooling} {structure}", float((y - ours).abs().max())
        scale = max(float(gradient.abs().max()), 1e-6)  # noisy-or has next to none
        difference = float((gradient - our_gradient).abs().max()) / scale
        yield "gradients, float32 against float64", f"{pooling} {structure}", difference


@torch.no_grad()
def check_network(device: torch.device, experiment: Experiment) -> Differences:
    """Frame probabilities of an untrained network, with and without autocast."""
    data = random_data(experiment, 4)
    network = training.build_network(experiment, data, seed=0).eval()
    features = torch.from_numpy(data.training.features)
    expected, _ = network(features)
    frame_prob, _ = network.to(device)(features.to(device))
    yield "network, float32", experiment.name, float((frame_prob.cpu() - expected).abs().max())
    with torch.autocast(device.type, dtype=torch.bfloat16):
        frame_prob, _ = network(features.to(device))
    yield "network, bfloat16 autocast", experiment.name, float((frame_prob.cpu() - expected).abs().max())


def check_training(device: torch.device, *, n_clips: int, arms: list[tuple[str, str]]) -> Differences:
    """Short trainings: here and on the CPU, cut short and not, in other memory layout, compiled."""
    smoke = with_training(load_experiment("smoke"), max_epochs=3, device=device.type)
    data = random_data(smoke, n_clips)

    def losses(name: str, arm: Sequence[str] = ("linear", "single"), after: Any = None, **changes: Any) -> np.ndarray:
        experiment, variant = with_training(smoke, **changes), {"pooling": arm[0], "structure": arm[1]}
        trained = training.train(experiment, data, seed=0, folder=Path(root, name), after_epoch=after, **variant)
        return np.array([epoch["training_loss"] for epoch in trained.epochs])

    def apart(ours: np.ndarray, expected: np.ndarray) -> float:
        return float(np.abs(ours / expected - 1).max())

    def stop(epoch: int, network: FrameNetwork) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as root:
        for arm in arms:
            name = " ".join(arm)
            expected = losses(f"cpu {name}", arm, device="cpu")
            yield "losses of a short training", name, apart(losses(name, arm), expected)
        expected = losses("whole")
        with suppress(KeyboardInterrupt):
            losses("cut", after=stop)
        yield "losses of a run that was cut short", "linear single", apart(losses("cut"), expected)
        yield "losses, channels last", "linear single", apart(losses("channels last", channels_last=True), expected)
        if device.type != "cpu":
            yield "losses, compiled", "linear single", apart(losses("compiled", compile=True), expected)


def peaks(device: torch.device, size: int) -> dict[str, float]:
    """Operations a second in a matrix product, and bytes a second to the card."""
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        square = torch.rand(size, size, device=device, dtype=kind)
        found[f"{str(kind)[6:]} (FLOP/s)"] = 2 * size**3 / seconds(device, partial(torch.matmul, square, square))
    host = torch.rand(size * size, pin_memory=device.type == "cuda")
    found["to the card (B/s)"] = host.nbytes / seconds(device, lambda: host.to(device, non_blocking=True))
    return found


def seconds(device: torch.device, run: Callable[[], Any], n: int = 10) -> float:
    """Seconds of one call, of `n` in a row, after three that do not count."""
    for n_calls in (3, n):
        started = time.perf_counter()
        for _ in range(n_calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / n


def graphed(step: Callable[[], Tensor]) -> Callable[[], Any]:
    """The step as one CUDA graph, which the card replays without the processor."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def training_steps(device: torch.device, experiment: Experiment, n_clips: int, peak: float) -> Iterator[dict[str, Any]]:
    """Clips a second of a training step in each form, and the share of the card's bfloat16 peak."""
    experiment = with_training(experiment, channels_last=False, compile=False)
    last = with_training(experiment, channels_last=True)
    with FlopCounterMode(display=False) as counter:
        stepper(experiment, device, 1)()
    per_clip = counter.get_total_flops()  # of convolutions and matrix products; of cuDNN's GRU nothing
    forms: dict[str, Callable[[], Callable[[], Any]]] = {
        "plain PyTorch, float32": partial(stepper, experiment, device, n_clips, autocast=False),
        "autocast": partial(stepper, experiment, device, n_clips),
        "autocast, channels last": partial(stepper, last, device, n_clips),
    }
    if device.type != "cpu":
        compiled = with_training(last, compile=True)
        forms["autocast, channels last, compiled"] = partial(stepper, compiled, device, n_clips)
        forms["autocast, channels last, CUDA graph"] = lambda: graphed(stepper(last, device, n_clips))
    for form, make in forms.items():
        row: dict[str, Any] = {"network": experiment.name, "clips": n_clips, "form": form}
        try:
            clips = n_clips / seconds(device, make())
            row |= {"clips a second": clips, "share of the peak": clips * per_clip / peak}
        except Exception as error:  # one form less; the others count
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        if device.type == "cuda":
            row["memory (B)"] = torch.cuda.max_memory_allocated(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        yield row


def _steps_for(name: str, device: torch.device, n_clips: int, n_steps: int, ready: Any) -> None:
    step = stepper(load_experiment(name), device, n_clips)
    seconds(device, step, n=2)
    ready.wait()
    seconds(device, step, n=n_steps)
    ready.wait()


def side_by_side(device: torch.device, name: str, counts: tuple[int, ...], n_steps: int) -> Iterator[dict[str, Any]]:
    """Clips a second of several runs of a narrow network on one card, each in its process."""
    context, n_clips = multiprocessing.get_context("spawn"), load_experiment(name).training.batch_size
    for n_runs in counts:
        ready = context.Barrier(n_runs + 1)
        arguments = name, device, n_clips, n_steps, ready
        jobs = [context.Process(target=_steps_for, args=arguments) for _ in range(n_runs)]
        for job in jobs:
            job.start()
        try:
            ready.wait(120)
            started = time.perf_counter()
            ready.wait(120)
            taken = time.perf_counter() - started
            yield {"network": name, "runs": n_runs, "clips a second": n_runs * (n_steps + 3) * n_clips / taken}
        except Exception as error:
            yield {"network": name, "runs": n_runs, "failed": f"{type(error).__name__}: {error}"}
        for job in jobs:
            job.join(5)
            job.kill()


def parts(device: torch.device, *, tiny: bool) -> dict[str, Callable[[dict], Any]]:
    """Everything that is done, in the order of its worth; each part takes what the parts before have found."""
    smoke, paper = load_experiment("smoke"), load_experiment("smoke" if tiny else "paper")
    narrow: tuple[Any, ...] = ("smoke", (1, 2), 2) if tiny else ("esc10", (1, 2, 4, 8), 50)

    def steps(found: dict) -> list[dict]:
        peak = found.get("peaks", {}).get("bfloat16 (FLOP/s)", float("nan"))
        return list(training_steps(device, paper, 2 if tiny else paper.training.batch_size, peak))

    return {
        "pooling": lambda found: _judged(check_pooling(device)),
        "network": lambda found: _judged(check_network(device, smoke)),
        "peaks": lambda found: peaks(device, 256 if tiny else 8192),
        "training steps": steps,
        "training": lambda found: _judged(check_training(device, n_clips=12, arms=ARMS[:2] if tiny else ARMS)),
        "side by side": lambda found: list(side_by_side(device, *narrow)),
    }


def _judged(checks: Differences) -> list[dict[str, Any]]:
    """The largest difference of each kind, where it was found, and whether it is within its tolerance."""
    worst: dict[str, dict[str, Any]] = {}
    for kind, where, difference in checks:
        difference = math.inf if math.isnan(difference) else difference
        if kind not in worst or difference > worst[kind]["difference"]:
            row = {"check": kind, "tolerance": TOLERANCES[kind], "difference": difference, "where": where}
            worst[kind] = row | {"passed": difference <= TOLERANCES[kind]}
    return list(worst.values())


def main() -> int:
    """Command line; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench.gpu", description="Checks and speed on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda, mps, or cpu: small, to see that it works")
    device, started = training.select_device(parser.parse_args().device), time.monotonic()
    output = results_folder("bench") / "gpu.json"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is float32
    found: dict[str, Any] = {
        "commit": provenance.commit(),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "pinned": IS_PINNED,
        **provenance.describe_device(device),
    }
    for name, part in parts(device, tiny=device.type == "cpu").items():
        begun = time.monotonic()
        if begun - started > 8 * 60:
            found[name] = "not begun: no time left"
            continue
        try:
            found[name] = part(found)
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found.setdefault("seconds", {})[name] = round(time.monotonic() - begun, 1)
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    checks = [row for value in found.values() if isinstance(value, list) for row in value if "passed" in row]
    failed = [row["check"] for row in checks if not row["passed"]]
    print(f"{output}: {len(checks)} checks; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or len(checks) < len(TOLERANCES) - (device.type == "cpu") else 0


if __name__ == "__main__":
    raise SystemExit(main())
