# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 Result tables
#
# Gathers the runs of one experiment into Table 2's layout, shows how far apart `single` and `hierarchical` are and why,
# and draws learning curves and Figure 5's view. Every number below is read from what the runs wrote.

# %%
import platform

import matplotlib
import pandas as pd

print(f"python {platform.python_version()}, pandas {pd.__version__}, matplotlib {matplotlib.__version__}")

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown

from hpsed_lib import dataset, plots, tables
from hpsed_lib.agreement import agreement_summary
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import results_folder

plots.use_style()
choices = load_experiment(experiment)
data = dataset.load(choices)
metrics = tables.load_metrics(choices)
figures = results_folder(experiment) / "figures"
figures.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1 Table 2, on our data
#
# Segment-based scores by sed_eval; *change* is relative to `single` of the same pooling function.
#
# > `single` and `hierarchical` are the same function with the same gradient (notebook 02), so that what separates their
# > rows is float32 rounding, amplified by training: a scale on which this table cannot tell two rows apart.
# > `appendix` has the gradient that the paper's Table A-1 prints; with max and average that is the same one again.

# %%
table = tables.write_table2(choices, metrics)
Markdown((results_folder(experiment) / "tables" / "table2.md").read_text())

# %% [markdown]
# ## 2 Rounding, or another gradient?
#
# From notebook 07: the three structures trained alike, from the same weights on the same batches, in both precisions.
# Largest absolute difference from `single`, in the clip probabilities and over all parameters, after the first step and
# after 20.

# %%
agreement = pd.read_csv(results_folder(experiment) / "tables" / "structure_agreement.csv")
agreement_summary(agreement).map("{:.1e}".format)

# %% [markdown]
# ## 3 What the paper printed
#
# > On DCASE 2017 Task 4: other clips than ours unless the experiment uses that data set, and then they stand in the
# > table above. ER change and F1 change are the paper's own percentages.

# %%
tables.formatted(tables.paper_table2().set_index(["dataset", "pooling", "structure"]))

# %% [markdown]
# ## 4 Learning curves

# %%
names = choices.pooling.functions
figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.6), sharey=True, squeeze=False)
for ax, pooling in zip(axes[0], names, strict=True):
    plots.plot_learning_curves(tables.histories(metrics, pooling=pooling), ax=ax).set(title=pooling)
    ax.label_outer()
for ax in axes[0, 1:]:
    ax.get_legend().remove()
figure.savefig(figures / "learning_curves.png")
plt.show()

# %% [markdown]
# ## 5 F1 of each class

# %%
class_scores = tables.class_f_measure(metrics)
figure, ax = plt.subplots(figsize=(1 + 0.6 * class_scores.shape[1], 1.5 + 0.38 * len(class_scores)))
plots.plot_class_scores(class_scores, ax=ax)
figure.savefig(figures / "class_scores.png")
plt.show()

# %% [markdown]
# ## 6 Figure 5's view
#
# Frame probabilities of every system for one event of one test clip, under its spectrogram and reference events.
#
# > The clip is the first of the test set in which a class has one event of 1 to 4 s and nothing else of that class; it
# > is not chosen by looking at predictions. Shaded: the reference event. Thin lines: the threshold of each system.

# %%
figure = plots.figure5(choices, data, metrics)
figure.savefig(figures / "figure5.png")
plt.show()

# %% [markdown]
# ## 7 What made these numbers

# %%
tables.provenance(metrics)
