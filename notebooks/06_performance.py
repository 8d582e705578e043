# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 06 How fast it is, and where the time goes
#
# What `make bench` measured on this machine: our ways beside what one would otherwise use, each beside its floor, where
# the rest of the time goes, memory against the size of the data set, and what was tried.
#
# > Ratios are of runs in turn in one process, on one machine. Another machine has other ratios: `make bench` measures
# > them, and writes the files that this notebook shows.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "pandas", "matplotlib"))

# %%
import json

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

from hpsed_lib import plots
from hpsed_lib.paths import published_folder, results_folder

plots.use_style()
pd.options.display.float_format = "{:.3g}".format
folder = results_folder("bench") if results_folder("bench").is_dir() else published_folder("bench")
pairs = pd.read_csv(folder / "bench.csv")

# %% [markdown]
# ## 1 Ratios
#
# *Floor* is the least arithmetic, or the least traffic with memory, that the task can do with, at the speed that this
# machine reaches in a large matrix product or a copy; *goal* is what we set out for.

# %%
Markdown((folder / "bench.md").read_text(encoding="utf-8"))

# %%
figure, ax = plt.subplots(figsize=(7, 2.5))
ax.plot(pairs.ratio, pairs.task, "o", alpha=0.4, label="a pair")
ax.plot(pairs.goal, pairs.task, "x", label="goal")
ax.invert_yaxis()
ax.set(xscale="log", xlabel="their time / our time")
ax.legend()
plt.show()

# %% [markdown]
# ## 2 Where the rest goes
#
# As profilers saw our side: for training by operation, forward and backward together (`torch.profiler`); for the rest
# by function (`cProfile`).
#
# **Features.** The transform itself, decoding and SHA-256 of the file (a manifest without checksums would be faster,
# and worth less) and the two passes for the power are most of it. librosa's loop is the same arithmetic with more
# passes. That is one process; of two at once, each in fresh memory for every clip, the page faults of the one hold up
# the other. So the workers of `extract` ask for large pages (`use_large_pages`).
#
# **Training.** At the widths of `quick` and `esc10` a convolution has 1 to 16 input channels, too few to fill the
# vector units: oneDNN's backward pass at full resolution takes longer than everything at lower ones, and batch norm,
# gates and max-pooling pass over memory rather than compute. At the paper's widths most of a step are convolutions, and
# it comes much closer to its floor; so does the plain network's.
#
# **Segment scores.** Columns of a data frame as arrays, names as numbers, and sums of 190,000 booleans over classes,
# segments and clips, three times each; fewer sums would be another way to count.

# %% [markdown]
# ## 3 Memory against the size of the data set

# %%
pd.read_csv(folder / "memory.csv").pivot(index="task", columns="clips", values="peak (MB)")

# %% [markdown]
# ## 4 A whole experiment
#
# From nothing to its tables, in seconds, against the sum of its training times on all cores; and what the time of all
# cores was spent on. *Runs* are the sections of notebook 03, without the training, for all runs together; their first
# section is imports, the second one the import of `torch._dynamo` by the first optimiser of a process. Notebook 02 is
# mathematics and does not depend on the experiment.

# %%
pd.read_csv(folder / "experiment.csv")

# %%
parts = pd.read_csv(folder / "experiment_parts.csv")
figure, ax = plt.subplots(figsize=(7, 0.8 + 0.28 * len(parts)))
ax.barh(parts.part, parts.seconds, color="C0")
ax.invert_yaxis()
ax.set(xlabel="seconds of a core", title=parts.task[0])
plt.show()

# %% [markdown]
# ## 5 On a GPU
#
# What `make gpu` found, where it has been run: checks against the CPU, then speed.

# %%
card = folder / "gpu.json"
found = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
print(found.get("device_name", "It has not been run: no figure here was measured on a GPU."))
for part in ("pooling", "network", "training", "training steps", "side by side"):
    if part in found:
        display(pd.DataFrame(found[part] if isinstance(found[part], list) else [{part: found[part]}]))

# %% [markdown]
# ## 6 What was tried
#
# On two cores of an AMD EPYC with AVX2, one thread if not said otherwise; times are medians or, where two are compared
# in turn, the fastest of nine. Other machines will differ.
#
# - **16-bit samples read as integers, then scaled.** Predicted: decoding 1.6 to 0.3 ms a clip. Measured: 1.63 to 0.31
#   ms. Kept.
# - **Power as re² + im² in place, not as a sum over pairs.** Predicted: 4 to 1 ms a clip. Measured: log-mel 11.1 to
#   6.8 ms. Kept.
# - **Torch's FFT (MKL) for scipy's.** Measured: scipy's much slower. Kept.
# - **Spectra of 25 to 250 frames at a time, to stay in the cache.** Predicted: faster. Measured: 5.5 to 7.0 ms
#   against 5.5. Dropped.
# - **Mel filters by blocks of bands, a third of the operations.** Predicted: -0.7 ms. Measured: -0.8 of 5.5 ms.
#   Dropped: more code than gain.
# - **Large pages for large arrays (glibc).** Predicted: fewer faults. Measured: a step of `quick`: 4,032 to 5 faults,
#   88 to 79 ms; `esc10`: 202 to 187 ms; memory the same. Kept, in every notebook.
# - **Freed memory kept by the process (glibc).** Predicted: the same. Measured: the same. Dropped: needs three
#   settings.
# - **Large pages for the processes that extract features.** Predicted: they wait for the disk, or for each other.
#   Measured: without `fsync` 6.2 for 6.5 ms a clip; with large pages 4.1 to 4.8. Two at once took 16 ms of a core a
#   clip where one alone took 7.7; with large pages 8.6. Kept.
# - **bfloat16 on this CPU, which has no unit for it** (autocast). Predicted: no gain. Measured: a step of `quick` 91
#   for 84 ms, of `esc10` 214 for 190. Dropped.
# - **Names of files and classes found by pandas' index, not by a dictionary.** Predicted: faster. Measured: segment
#   scores 5.6 to 5.0 ms. Kept: fewer lines. From one call of the benchmark to the next they are 176 to 203 times as
#   fast as sed_eval's, on either side of the goal.
# - **Fewer imports.** A notebook's imports take 4.3 to 6.0 s of a core: torch 2.0, scikit-learn and SciPy 1.6,
#   Matplotlib 0.8, pandas 0.5. Runs import no SymPy. The first optimiser of a process imports `torch._dynamo`, 1.8
#   s, also where nothing is compiled; there is no setting against it.
# - **Notebook 02 before the runs, not after them.** Predicted: up to a minute and a half, for it used one core while
#   the other had nothing to do. Measured: 6 % of the cores' time is idle in all. Kept.
# - **A GRU with both directions in one product and a written backward pass.** Measured: see the training rows above.
#   Kept.
# - **Channels last.** Predicted: faster convolutions. Measured: each convolution up to 6 times faster, gates 4 times
#   slower; a step of `esc10` 200 ms against 162, `quick` 92 against 72. Dropped.
# - **Channels last, gate as a product of halves.** Predicted: the sum of both gains. Measured: `esc10` 140 against
#   162 ms in one run, 192 against 185 in another; `quick` 80 against 72; paper width 4.3 s against 3.3. Dropped.
# - **Channels last in the first block only.** Predicted: most of the gain. Measured: `esc10` 149 against 162 ms,
#   `quick` 78 against 72. Dropped.
# - **A gate with its own backward pass.** Predicted: one pass less. Measured: within noise. Dropped.
# - **Batch norm and gate as one function, clip by clip, to stay in the cache.** Predicted: half the time. Measured, on
#   another processor while other work ran on it: 28.5 ms for 30.6 in the first block, forward and backward; a step of
#   `esc10` 268 for 282 ms (209 before, with less beside it). Dropped: many lines for what may be noise.
# - **Max-pooling as maxima of slices.** Predicted: faster. Measured, there too: forward 2.3 ms for 14.4, with the
#   backward pass 18.3 for 18.6. Dropped.
# - **Convolutions of few channels as `unfold` and a product.** Predicted: faster with 1 to 4 channels. Measured: 5 to
#   10 times slower. Dropped.
# - **`torch.compile` of the convolutional part.** Predicted: 1.15 times. Measured: `quick` 95 ms against 88, `esc10`
#   186 against 172, and 7 to 9 s to compile, most layers left out. As one function, none left out: not measured yet.
#   A parameter for GPUs.
# - **Pooling: weights times 1 / sum for weights / sum.** Predicted: -10 %. Measured: -10 to -15 %, and gradients
#   overflow where weights sum up to less than 1e-19. Dropped.
# - **Pooling: frames of a segment first in memory.** Predicted: shorter loops. Measured: 4.4 to 3.5 ms, 128 clips.
#   Dropped: under 1 % of a step.
# - **Two threads for one run instead of two runs.** Predicted: worse. Measured: paper width: 2.3 s a step against 3.4
#   with one, so 1.5 times instead of 2. Dropped.
# - **Background processes that read training input.** Predicted: nothing. Measured: 3,500 clips a second are read by
#   the training process itself, against 10 to 40 that it trains. Dropped; a parameter.
