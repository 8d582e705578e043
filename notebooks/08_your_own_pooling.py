# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 08 Your own pooling function
#
# In weakly labelled sound event detection a network says for each short frame of a clip how probable each event is; for
# training there are labels of whole clips only, and a *pooling function* turns the frames into one number for the clip.
# This notebook takes a pooling function that is not the library's from its file to its first F1 score. For your own,
# give its file and name in the parameters cell. It needs nothing else to have run, and some three minutes.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "numpy"))

# %% tags=["parameters"]
file: str = "params/top_half.py"  # relative to the repository
name: str = "top_half"  # of the function in that file
experiment: str = "quick"  # whose clips and network are used
n_epochs: int = 4  # of training, with each of the two functions that are compared

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from hpsed_lib import dataset, plots, training
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.networks.own_pooling import check, pooling_function
from hpsed_lib.params import Variants, load_experiment
from hpsed_lib.paths import ROOT
from hpsed_lib.pooling import pool
from hpsed_lib.runs import run_folder, score, tuned_threshold

plots.use_style()

# %% [markdown]
# ## 1 Write it
#
# A pooling function takes by name what it needs: `frame_prob`, (batch, frames, classes), and if it likes the network's
# `attention` of the same shape (`attention_logit` before its softmax) and `sharpness`, a trained number for each class.
# It returns a weight for each frame, of which the weighted mean is taken, or the clips' probabilities themselves,
# (batch, classes).

# %%
print((ROOT / file).read_text(encoding="utf-8"))

# %% [markdown]
# ## 2 Check it
#
# Before anything is trained a function must bear random, constant, silent and saturated frames, a single frame and
# bfloat16: finite numbers from 0 to 1, a finite gradient, nothing changed in place, no clip that depends on another.

# %%
once = {"structures": ("single",), "seeds": 1}
variants = {"linear": Variants(**once), name: Variants(**once, file=file)}
loaded = load_experiment(experiment)
choices = loaded.model_copy(update={"pooling": loaded.pooling.model_copy(update={"functions": variants})})
mine = pooling_function(choices, name)
print(f"{name} is a pooling function")
try:
    check(lambda frame_prob: frame_prob.sum(1))
except ParameterError as error:
    print(f"the plain sum of the frames is not: {error}")

# %% [markdown]
# ## 3 Look at it
#
# One clip and one class: two events, the second weaker, over a low rest. The slope dy/dx of a frame says how training
# moves it when the class is in the clip: up where it is above 0, down where it is below.

# %%
time = np.arange(125) * 0.08  # s
curve = 0.05 + 0.85 * np.exp(-(((time - 3) / 0.6) ** 2)) + 0.4 * np.exp(-(((time - 7) / 0.8) ** 2))
frames = {
    own: torch.tensor(curve, dtype=torch.float64).reshape(1, -1, 1).requires_grad_()
    for own in choices.pooling.functions
}
given = {
    "attention": torch.full((1, 125, 1), 0.5),
    "attention_logit": torch.zeros(1, 125, 1),
    "sharpness": torch.ones(1),
}
y = {own: pool(x, **given, pooling=pooling_function(choices, own)) for own, x in frames.items()}
for value in y.values():
    value.sum().backward()

# %%
figure, axes = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True)
axes[0].fill_between(time, curve, color="0.85")
axes[0].set(ylabel="frame_prob", ylim=(0, 1))
for (own, x), style in zip(frames.items(), ("-", "--"), strict=True):
    axes[1].plot(time, x.grad.flatten(), style, label=f"{own}: y = {y[own].item():.2f}")
axes[1].axhline(0, color="0.5", linewidth=0.8)
axes[1].set(xlabel="time (s)", ylabel="dy/dx of each frame")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 4 Train with it
#
# The same network, clips, initial weights and order of the clips, once with linear softmax and once with yours.

# %%
try:
    data = dataset.load(choices)
except DataError:
    data = dataset.prepare(choices)
shorter = {"max_epochs": n_epochs, "warmup_epochs": min(1, n_epochs - 1)}
choices = choices.model_copy(update={"training": choices.training.model_copy(update=shorter)})
trained = {}
for own in choices.pooling.functions:
    print(own)
    folder = run_folder(choices, f"notebook-08-{own}")
    trained[own] = training.train(choices, data, pooling=own, structure="single", seed=0, folder=folder)

# %% [markdown]
# ## 5 Compare it
#
# > One training each, and a short one: this says that your function trains, and nothing about which is better. Two
# > trainings of one function that differ in their seed alone end points of F1 apart. For an answer put it into an
# > experiment with ten seeds or more, as below.

# %%
rows = {}
for own, result in trained.items():
    variant = {"pooling": own, "structure": "single"}
    tuning, _ = training.predict_split(result.network, data.tuning, choices, **variant)
    test, _ = training.predict_split(result.network, data.test, choices, **variant)
    threshold = tuned_threshold(choices, data, tuning, "f_measure")[0]
    scores = score(choices, data, data.test, test, threshold=threshold)["overall"]
    rows[own] = {"validation loss": result.history.validation_loss.min(), "threshold": threshold}
    rows[own] |= {"F1 (%)": 100 * scores["f_measure"], "ER": scores["error_rate"]}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# ## 6 Put it into an experiment
#
# Copy `params/quick.yaml` to `params/mine.yaml`, add your function to `pooling: functions:`, and run
# `make reproduce EXPERIMENT=mine`. It stands in every table, figure and `make status` beside the others; its file's
# digest is in each result, and a change of the file trains its runs again and no others.

# %%
print(f"    {name}: {{file: {file}, structures: [single], seeds: 10}}")
