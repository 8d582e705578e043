# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 11 What was found
#
# Reads what an experiment's runs left, metrics and events, and says what follows: is the appendix's algorithm better or
# worse than single pooling, and what does the F1 that decides it hide? Every number comes from those files, every word
# of a verdict from the tests that the experiment's file had fixed before anything was trained.

# %%
from hpsed_lib.provenance import setting

print(setting("pandas", "scipy"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/
n_seeds: int = 0  # runs of the seeds 0 to n_seeds - 1; 0: of the experiment's own seeds

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from hpsed_lib import dataset, findings, plots, tables
from hpsed_lib.comparison import contrasts, recording_weights, resampled_scores
from hpsed_lib.params import load_experiment, with_seeds
from hpsed_lib.paths import results_folder
from hpsed_lib.runs import load_events

plots.use_style()
choices = with_seeds(load_experiment(experiment), n_seeds)
data = dataset.load(choices)
metrics = tables.load_metrics(choices)
scores = tables.scores(metrics)
figures = results_folder(experiment) / "figures"
functions = list(choices.pooling.functions)
print(tables.describe(choices, metrics))

# %% [markdown]
# ## 1 The question, as it was put before the first run

# %%
family, bounds = choices.comparison.family, choices.comparison.equivalence
Markdown(
    f"Does `appendix` detect better or worse than `single`? For **{', '.join(family)}**, by segment-based F1 at the "
    f"tuned threshold, paired by seed, Holm over {len(family)} tests; equivalent means within **±{bounds:g} points**. "
    f"Schedule: {choices.training.schedule}, {choices.training.learning_rate:g}, {choices.training.max_epochs} epochs."
)

# %% [markdown]
# ## 2 Have the trainings learned?
#
# > *late_gain*: by how much of itself, an epoch, the lowest validation loss fell in the last three epochs.
# > *n_still_falling* counts runs in which that was more than 1 %: these were cut short.

# %%
findings.trainings(metrics).round(4)

# %% [markdown]
# ## 3 Every run

# %%
n_arms = scores.groupby(["pooling", "structure"]).ngroups
figure, ax = plt.subplots(figsize=(7.5, 1.2 + 0.42 * n_arms))
plots.plot_runs(scores, measure="f_measure", ax=ax)
plots.save(figure, figures / "runs.png")
plt.show()

# %% [markdown]
# ## 4 The ruler, then the answer
#
# *Same method* rows are trainings of one algorithm: what they differ by means nothing, and how far that can go is the
# ruler for the rest.

# %%
clips = tables.tested_clips(choices, data)
resampled = resampled_scores(metrics, recording_weights(clips.sources.to_list()))
compared = contrasts(scores, resampled, family=family, equivalence=bounds)
tables.formatted_contrasts(compared)

# %%
figure, ax = plt.subplots(figsize=(7.5, 1.4 + 0.07 * len(compared)))
plots.plot_contrasts(compared, equivalence=bounds, ax=ax)
plt.show()

# %% [markdown]
# ## 5 Thresholds
#
# The paper does not say at which threshold it scored. An arm whose probabilities are badly calibrated loses at 0.5 what
# it may win back at a threshold of its own.

# %%
findings.thresholds(scores).round(3)

# %% [markdown]
# ## 6 Where the probabilities lie
#
# > Frames *inside* an event of the class, *beside* it in the same clip, and in clips where the class is *absent*. Good
# > ones stand apart at some threshold; that it is 0.5 nothing in the training asks for.

# %%
shares = findings.probabilities(metrics)
figure, axes = plt.subplots(len(functions), 3, figsize=(9, 0.6 + 2.1 * len(functions)), sharey=True, squeeze=False)
for row, pooling in zip(axes, functions, strict=True):
    for ax, where in zip(row, ("inside", "beside", "absent"), strict=True):
        plots.plot_probabilities(shares, pooling=pooling, where=where, ax=ax).label_outer()
    row[0].legend(fontsize="small")
plots.save(figure, figures / "probabilities.png")
plt.show()

# %%
above = shares[shares.low >= 0.5].groupby(["pooling", "structure", "where"], sort=False).share.sum()
(100 * above).rename("frames above 0.5 (%)").unstack().round(2)

# %% [markdown]
# ## 7 What is found, and what is missed
#
# Number and length of the detected events beside the reference, and how much of a reference event is covered, by its
# length in seconds.

# %%
estimated: dict = {}
for run in metrics:
    estimated.setdefault((run["pooling"], run["structure"]), []).append(load_events(choices, run["run"]))
findings.detections(data.test.strong_labels, estimated).round(2)

# %%
class_scores = tables.class_f_measure(metrics)
figure, ax = plt.subplots(figsize=(1.5 + 0.6 * class_scores.shape[1], 1.5 + 0.38 * len(class_scores)))
plots.plot_class_scores(class_scores, ax=ax)
plt.show()

# %% [markdown]
# ## 8 Why
#
# Notebook 10's measurements of this experiment, where it has run: the share of frames that each gradient pushes up in
# the network that it trained, in the first and the last epoch.

# %%
measured = sorted((results_folder(experiment) / "tables").glob("directions_*.csv"))
looked = [pd.read_csv(path).assign(pooling=path.stem.partition("_")[2]) for path in measured]
own = pd.concat(looked).query("gradient == trained_as") if looked else pd.DataFrame()
if looked:
    ends = own[own.epoch.isin([own.epoch.min(), own.epoch.max()])]
    index, columns = ["pooling", "quantity", "where"], ["trained_as", "epoch"]
    own = (100 * ends.pivot_table(index=index, columns=columns, values="up")).round(1)
own

# %% [markdown]
# ## 9 What this does not show
#
# One network, one data set, one schedule, segments of the lengths in the experiment's file. Seeds share the training
# clips: another training set may move all arms together. Scores on mixed or synthetic clips say nothing about DCASE.
