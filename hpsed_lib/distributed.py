"""Several processes for one run: PyTorch's own launcher (torchrun) and DistributedDataParallel, on one host.

Each process takes its share of every batch, and the shares together do what one process does with the whole batch: the
gradient is that of the batch's mean loss, and batch norm takes the statistics of the whole batch. A share may be empty,
where a batch has fewer clips than there are processes. CUDA: one GPU for each process (NCCL); CPU: gloo. Each process
has one thread. Dropout draws other numbers in each process, so that only without it the results are those of one
process but for rounding.

In a process that was not started by `run_in_processes` every function here does nothing, at no cost.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hpsed_lib.errors import ExecutionError, HpsedError, ParameterError
from hpsed_lib.execution import LAUNCHER, end_with_launcher
from hpsed_lib.gpus import require_gpus
from hpsed_lib.paths import ROOT
from hpsed_lib.progress import LOG_VARIABLE, is_headless

Network = TypeVar("Network", bound=nn.Module)
DIMS = (0, 2, 3)  # of (batch, channels, frames, bands), all but the channels


def rank_and_count() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are for this run; 0 and 1 outside `run_in_processes`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share(rows: np.ndarray) -> np.ndarray:
    """This process's share of some rows: the shares follow each other, and their lengths differ by 1 at most."""
    rank, count = rank_and_count()
    return rows[rank * len(rows) // count : (rank + 1) * len(rows) // count]


def total(value: float) -> float:
    """The sum of a value over all processes, the same in each."""
    if not dist.is_initialized():
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def seed_apart(seed: int, epoch: int) -> None:
    """Give each process random numbers of its own, which depend on the epoch too; one process keeps its stream."""
    rank, count = rank_and_count()
    if count > 1:
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]))


def averaging(module: nn.Module) -> nn.Module:
    """The module, so that ``backward`` averages its gradients over the processes."""
    if not dist.is_initialized():
        return module
    # Statistics of batch norm are the same everywhere; not every pooling function uses every parameter.
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


def with_global_norms(network: Network, *, compiled: bool = False) -> Network:
    """The network with every `torch.nn.BatchNorm2d` replaced by a `GlobalBatchNorm2d` of the same parameters.

    If parts of it are going to be `compiled` by `torch.compile`, these layers stay out of that.
    """
    if dist.is_initialized():
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d:
                    norm = GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
                    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                        setattr(norm, tensor, getattr(child, tensor))
                    if compiled:  # not a decorator: it would import half of torch into every process
                        norm.forward = torch.compiler.disable(norm.forward)  # type: ignore[method-assign]
                    setattr(module, name, norm)
    return network


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the shares of all processes; each must call it, with an empty share too.

    `torch.nn.SyncBatchNorm` runs on CUDA only and, under autocast, not with an empty share.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised input, of its shape (batch, channels, frames, bands) and dtype."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        y, mean, var, count = _GlobalBatchNorm.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        return y


class _GlobalBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        n_values = x.numel() // x.shape[1]
        own = weight.new_zeros(3, x.shape[1])  # of this share: number of values, mean, squared differences from it
        if n_values:
            var, mean = torch.var_mean(x.to(weight.dtype), DIMS, correction=0)
            own = torch.stack([torch.full_like(mean, n_values), mean, n_values * var])
        shares = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, own)
        counts, means, squares = torch.stack(shares, dim=1)  # (processes, channels) each
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        var = (squares + counts * (means - mean).square()).sum(0) / count
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, var, count)
        return nn.functional.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        normalised = (x - _by_channel(mean)) * _by_channel(scale)
        d_bias = d_y.sum(DIMS, dtype=weight.dtype)
        d_weight = (d_y * normalised).sum(DIMS)
        sums = torch.stack([d_bias, d_weight])
        dist.all_reduce(sums)
        mean_bias, mean_weight = sums / count
        d_x = (d_y - _by_channel(mean_bias) - normalised * _by_channel(mean_weight)) * _by_channel(weight * scale)
        return d_x.to(x.dtype), d_weight, d_bias, None


def _by_channel(values: Tensor) -> Tensor:
    """(channels,) as (1, channels, 1, 1)."""
    return values[:, None, None]


def run_in_processes(
    function: Callable[..., object], *arguments: Any, count: int, device: torch.device, **named: Any
) -> None:
    """Call a function in several processes at once, as torchrun starts them, and wait for their end.

    What the first process prints is printed here; what it tracks goes to the log of a headless run. The processes end
    with this one, however that ends.

    Parameters
    ----------
    function : callable
        Of a module that can be imported; called with the arguments in each process.
    count : int
        Processes.
    device : torch.device
        Kind of device they compute on; of several GPUs the n-th process has the n-th.

    Raises
    ------
    ParameterError
        The device is no CPU, and there are not as many as processes.
    ExecutionError
        A process failed; the others were ended.
    """
    if device.type == "mps":
        raise ParameterError(f"training.processes is {count}, and MPS takes one process; set it to 1")
    if device.type == "cuda":
        require_gpus(count, [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())])
    with tempfile.TemporaryDirectory(prefix="hpsed-") as name:
        folder = Path(name)
        with open(folder / "job.pickle", "wb") as job:
            pickle.dump((device.type, function, arguments, named), job)
        environment = os.environ | {LAUNCHER: str(os.getpid()), "OMP_NUM_THREADS": "1"}
        if not is_headless():
            environment[LOG_VARIABLE] = os.devnull
        with open(folder / "stderr", "w", encoding="utf-8") as errors:
            launcher = subprocess.Popen(
                [sys.executable, "-m", "hpsed_lib.distributed", str(count), name],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends everything
            )
        try:
            assert launcher.stdout is not None
            with launcher.stdout as lines:
                for line in lines:
                    print(line, end="", flush=True)
            status = launcher.wait()
        finally:
            launcher.terminate()  # it ends its processes first
            launcher.wait()
        if status:
            raise ExecutionError(_describe_failure(folder, count, status))


def _describe_failure(folder: Path, count: int, status: int) -> str:
    """Which process failed first, or was killed, and why."""
    # A process that fails makes those fail that wait for it; one that was killed leaves no file of its own.
    reports = sorted(folder.glob("failure*.txt"), key=lambda path: (path.stem != "failure", path.stat().st_mtime_ns))
    if reports:
        summary, _, details = reports[0].read_text(encoding="utf-8").partition("\n")
        print(details, end="", flush=True)
        return f"one of {count} processes failed: {summary}"
    last = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return f"the launcher of {count} processes ended with status {status}: {' '.join(last)}"


def _launch(count: int, folder: Path) -> int:
    """What the launcher does: start the processes as torchrun does, and note which of them was killed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    end_with_launcher()
    options = ["--standalone", "--local-addr=localhost", f"--nproc-per-node={count}", f"--log-dir={folder}"]
    try:
        run(parse_args([*options, "--module", "hpsed_lib.distributed", str(folder)]))
    except ChildFailedError as error:
        ended = [(failure.timestamp, rank, -failure.exitcode) for rank, failure in error.failures.items()]
        # Once one has failed torchrun ends the others by SIGTERM, and may name them too.
        ended = [one for one in ended if one[2] != signal.SIGTERM] or ended
        killed = sorted(one for one in ended if one[2] > 0)
        if killed:
            _, rank, number = killed[0]
            text = f"process {rank} was ended by {signal.Signals(number).name}\n"
            (folder / "failure.txt").write_text(text, encoding="utf-8")
        return 1
    return 0


def _work(folder: Path) -> None:
    """What each process does."""
    end_with_launcher()
    rank = int(os.environ["RANK"])
    if rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        os.environ[LOG_VARIABLE] = os.devnull
    try:
        with open(folder / "job.pickle", "rb") as job:
            device, function, arguments, named = pickle.load(job)
        torch.set_num_threads(1)
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        function(*arguments, **named)
        dist.destroy_process_group()
    except Exception as error:
        expected = isinstance(error, HpsedError)
        summary = f"process {rank}: {error if expected else f'{type(error).__name__}: {error}'}".replace("\n", " ")
        report = f"{summary}\n{'' if expected else traceback.format_exc()}"
        (folder / f"failure{rank}.txt").write_text(report, encoding="utf-8")
        os._exit(1)  # the others may wait for this process, and it must not wait for them


def main(arguments: Sequence[str] | None = None) -> int:
    """The launcher, with the number of processes and a folder, or one of its processes, with the folder."""
    *count, folder = sys.argv[1:] if arguments is None else arguments
    if count:
        return _launch(int(count[0]), Path(folder))
    _work(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
