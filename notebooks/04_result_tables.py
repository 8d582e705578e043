# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 04 Result tables
#
# Gathers the runs of one experiment into Table 2's layout, shows how far apart `single` and `hierarchical` are and
# why, and draws learning curves and Figure 5's view. Every number below is read from what the runs wrote.

# %%
from hpsed_lib.provenance import setting

print(setting("pandas", "matplotlib", "sed_eval"))

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

from hpsed_lib import dataset, plots, tables
from hpsed_lib.comparison import seeds_needed
from hpsed_lib.data.manifest import coverage_by_class, coverage_line, warning
from hpsed_lib.launch import published
from hpsed_lib.params import load_experiment, with_seeds
from hpsed_lib.paths import results_folder
from hpsed_lib.theory.agreement import agreement_summary

plots.use_style()
pd.options.display.max_colwidth = None
choices = with_seeds(load_experiment(experiment), n_seeds)
data = dataset.load(choices)
metrics = tables.load_metrics(choices)
figures = results_folder(experiment) / "figures"

# %%
print(coverage_line(data.report))
print(warning(data.report, stand_in=data.stand_in))

# %% [markdown]
# ## 1 Table 2, on our data
#
# Segment-based scores by sed_eval, in the paper's layout.
#
# > `single` and `hierarchical` are the same function with the same gradient (notebook 02), so that what separates
# > their rows is float32 rounding, amplified by training. `appendix` has the gradient that the paper's Table A-1
# > prints; with max and average that is the same one again. Each column is a mean by itself: a mean of F1 is not the F1
# > of mean precision and recall, so that these rows, too, would fail notebook 05's test of the paper's.

# %%
written = tables.write_tables(choices, metrics, tables.tested_clips(choices, data))
Markdown((results_folder(experiment) / "tables" / "table2.md").read_text())

# %% [markdown]
# ## 2 What can be told apart
#
# Each arm against `single` of its pooling function. *Same method* comes first: trainings of one algorithm, which show
# how large a difference means nothing. Tested is what the experiment's file names, by F1 at the tuned threshold; F1 at
# 0.5, as the paper may have used it, stands beside it.
#
# > Two things are random here. *Seeds*: would another training agree? *Recordings*: would another test set agree, for
# > these trained networks? With one seed nothing can be said about the first.

# %%
compared = written["contrasts"]
Markdown((results_folder(experiment) / "tables" / "contrasts.md").read_text())

# %%
figure, ax = plt.subplots(figsize=(7.5, 1.4 + 0.07 * len(compared)))
plots.plot_contrasts(compared, equivalence=choices.comparison.equivalence, ax=ax)
plots.save(figure, figures / "contrasts.png")
plt.show()

# %% [markdown]
# All measures; then the seeds that it would take to find a difference as large as the bounds of equivalence with 80 %
# power, at the hardest of Holm's levels, if seeds spread as they do here.

# %%
shown = ["pooling", "structure", "measure", "difference", "low", "high", "low_recordings", "high_recordings"]
compared.reindex(columns=shown).round(3)

# %%
tested = compared.reindex(columns=[*shown[:4], "difference_sd", "p_value", "p_holm", "p_equivalence"]).dropna()
bounds = {"difference": choices.comparison.equivalence, "n_tests": len(tested)}
tested.assign(n_seeds_needed=[seeds_needed(sd, **bounds) for sd in tested.difference_sd]).round(4)

# %% [markdown]
# ## 3 Where on the curve
#
# Every system at three thresholds: 0.5, and those with the best F1 and the best ER on the tuning clips.
#
# > A system's best F1 and its best ER belong to different thresholds. A table that took each from its own would
# > describe no system there is; notebook 05 asks whether the paper's does.

# %%
points = tables.operating_points(metrics)
shorter = {"index": tables.POINTS, "columns": tables.HEADINGS}
points[["error_rate", "f_measure"]].rename(**shorter).round(1).unstack("point")

# %%
functions = choices.pooling.functions
figure, axes = plots.grid(len(functions))
for ax, pooling in zip(axes, functions, strict=True):
    plots.plot_operating_points(points, pooling=pooling, ax=ax).label_outer()
handles = plots.operating_point_legend(points.index.unique("structure"))
figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
plots.save(figure, figures / "operating_points.png")
plt.show()

# %% [markdown]
# ## 4 Without a threshold
#
# In percent: PSDS (higher is better; scenario 1 asks for exact times, 2 for the right class), average precision and
# area under the ROC curve over segments, mean average precision of frames and of clips; and with one: event-based F1
# (onset within 200 ms, offset within 200 ms or 20 % of the length) and the F1 of audio tagging at 0.5.

# %%
tables.threshold_free(metrics).round(1).rename(columns=lambda name: name.replace("_", " "))

# %% [markdown]
# ## 5 Labels
#
# What is odd in the test clips' labels, and what it would change: the reference activity, the best constant guess,
# and the score of the first run, if that oddity were removed.

# %%
effects = tables.label_effects(choices, data, metrics[0]).round(4)
effects.rename(columns=lambda name: name.replace("_", " "))

# %% [markdown]
# ## 6 Rounding, or another gradient?
#
# From notebook 07: the three structures trained alike, from the same weights on the same batches, in both precisions.
# Largest absolute difference from `single`, in the clip probabilities and over all parameters, after the first step
# and after 20.

# %%
agreement = pd.read_csv(results_folder(experiment) / "tables" / "structure_agreement.csv")
agreement_summary(agreement).map("{:.1e}".format)

# %% [markdown]
# ## 7 What the paper printed
#
# > On DCASE 2017 Task 4: other clips than ours unless the experiment uses that data set, and then they stand in the
# > table above. In percent, the error rates too; notebook 05 has every number as printed. ER change and F1 change are
# > the paper's own.

# %%
tables.formatted(tables.paper_table2())

# %% [markdown]
# ## 8 Learning curves

# %%
figure, axes = plots.grid(len(functions))
for ax, pooling in zip(axes, functions, strict=True):
    plots.plot_learning_curves(tables.histories(metrics, pooling=pooling), ax=ax).set(title=pooling)
    ax.label_outer()
for ax in axes[:-1]:
    ax.get_legend().remove()
plots.save(figure, figures / "learning_curves.png")
plt.show()

# %% [markdown]
# ## 9 F1 of each class

# %%
class_scores = tables.class_f_measure(metrics)
figure, ax = plt.subplots(figsize=(1 + 0.6 * class_scores.shape[1], 1.5 + 0.38 * len(class_scores)))
plots.plot_class_scores(class_scores, ax=ax)
plots.save(figure, figures / "class_scores.png")
plt.show()

# %% [markdown]
# ## 10 Figure 5's view
#
# Frame probabilities of every system for one event of one test clip, under its spectrogram and reference events.
#
# > The clip is the first of the test set in which a class has one event of 1 to 4 s and nothing else of that class;
# > it is not chosen by looking at predictions. Shaded: the reference event. Thin lines: the threshold of each system.

# %%
figure = plots.figure5(choices, data, metrics)
plots.save(figure, figures / "figure5.png")
plt.show()

# %% [markdown]
# ## 11 Clips behind these numbers
#
# Clips of each class that the label files list, and those with audio that could be used.

# %%
manifest, weak = dataset.read_manifest(choices), dataset.read_table(choices, "weak_labels")
tables.write_coverage(choices, metrics, coverage_by_class(manifest, weak, data.classes))

# %% [markdown]
# ## 12 What made these numbers

# %%
tables.provenance(metrics)

# %% [markdown]
# ## 13 Beside what is published
#
# Run by run: *identical* to the last digit, *compatible* (tuned F1 where one more seed of the published arm would lie,
# 95 %), or *different*, and the first thing in the provenance that differs.

# %%
beside = published.compare(choices)
print(published.verdict_line(beside))
beside.round(2)
