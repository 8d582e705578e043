# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 03 Train one variant
#
# Trains the network (Figs. 2 and 3) with one pooling function in one structure from clip labels, chooses a threshold
# on clips with strong labels that are not the test clips, decodes events and scores them on the test clips. Notebook 01
# must have run for the experiment.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "numpy"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/
pooling: str = "linear"  # a function of hpsed_lib.pooling, or one of your own that the experiment names
structure: str = "hierarchical"  # single | hierarchical | appendix | mixed
seed: int = 0  # initial weights, data order, dropout

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import matplotlib.pyplot as plt
import pandas as pd

from hpsed_lib import dataset, plots, training
from hpsed_lib.networks.base import layer_table
from hpsed_lib.params import load_experiment, run_name
from hpsed_lib.runs import finish_run, run_folder

plots.use_style()
choices = load_experiment(experiment)
data = dataset.load(choices)
run = run_name(pooling, structure, seed)
device = training.select_device(choices.training.device)
print(f"{run} on {device.type}: {len(data.training.filenames)} training clips, {len(data.classes)} classes")

# %% [markdown]
# ## 1 The network (Sec. 2.1, Figs. 2 and 3)
#
# Four blocks of two gated convolutions, batch norm, dropout and max-pooling; one more convolution; a Bi-GRU; a dense
# layer with sigmoid for $x_i$, and one with softmax, from the same input, for the weights of attention pooling. The
# frame rate falls from 50 Hz to 12.5 Hz.
#
# > Channels, pools and units are not printed in the text; `params/paper.yaml` says where ours come from. An experiment
# > whose `network.kind` is another trains that one, of another system of Table 3: the table shows its layers.

# %%
network = training.build_network(choices, data, seed=seed)
layers = pd.DataFrame(layer_table(network, n_frames=choices.n_frames, n_mels=choices.features.n_mels))
print(f"{sum(p.numel() for p in network.parameters()):,} parameters")
layers

# %% [markdown]
# ## 2 Training on clip labels (Sec. 3.2)
#
# $$L = -t \log y - (1 - t) \log (1 - y) \qquad \text{(A-1)}$$
#
# Adam; training stops when the validation loss has not fallen for `patience` epochs; the weights of its lowest value
# are kept.

# %%
trained = training.train(
    choices, data, pooling=pooling, structure=structure, seed=seed, folder=run_folder(choices, run)
)
print(f"best validation loss in epoch {trained.best_epoch}")

# %%
figure, ax = plt.subplots(figsize=(6, 3.5))
plots.plot_learning_curves({structure: trained.history}, ax=ax)
plt.show()

# %% [markdown]
# ## 3 Threshold, decoding, scores (Secs. 2.1 and 3.3)
#
# > The threshold is the one with the best segment-based F1 on the *tuning* clips (those with strong labels beside the
# > test clips: the validation clips, where they have such labels), of all that make a difference there, unless the
# > experiment gives a number. Then: median filter, gaps shorter than `minimum_gap` closed, events
# > shorter than `minimum_duration` dropped. The test clips are scored once, by sed_eval.

# %%
metrics, curve = finish_run(choices, data, trained, pooling=pooling, structure=structure, seed=seed)
figure, ax = plt.subplots(figsize=(6, 3))
plots.plot_thresholds(curve, chosen=metrics["threshold"], ax=ax)
plt.show()

# %%
pd.DataFrame([metrics["test"]["overall"]], index=["test"]).round(4).astype(object).T

# %% [markdown]
# The same network at other thresholds: 0.5, and those with the best F1 and the best ER on the tuning clips. Notebook 04
# compares the systems at each.

# %%
points = {name: point["test"] for name, point in metrics["operating_points"].items()}
pd.DataFrame(points).T[["error_rate", "precision", "recall", "f_measure"]].round(4)

# %%
pd.DataFrame.from_dict(metrics["test"]["class_wise"], orient="index").round(3)
