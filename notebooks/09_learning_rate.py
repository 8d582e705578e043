# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 09 Which learning rate
#
# Trains `single` of one pooling function under several schedules of the learning rate, everything else as the
# experiment has it, and compares them on the validation clips; nothing is predicted for the test clips. From this an
# experiment's schedule is chosen, for all its variants alike, before it is run. Notebook 01 must have run for the
# experiment; `make learning-rate` runs this one for linear softmax and for attention.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "numpy"))

# %% tags=["parameters"]
experiment: str = "esc10"  # name of a file in params/
pooling: str = "linear"  # a function of hpsed_lib.pooling, or one of your own that the experiment names
seed: int = 0  # initial weights, data order, dropout

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from hpsed_lib import dataset, plots, training
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.runs import run_folder, tuned_threshold

plots.use_style()
choices = load_experiment(experiment)
data = dataset.load(choices)
print(f"{len(data.training.filenames)} training clips, {len(data.validation.filenames)} validation clips")

# %% [markdown]
# ## 1 Trainings
#
# The paper's schedule is a constant learning rate; the others rise for two epochs and fall along half a cosine
# (`hpsed_lib.training.learning_rate`).

# %%
schedules = {"constant 0.003": ("constant", 0.003, 0)}
warmup_epochs = min(2, choices.training.max_epochs - 1)
schedules |= {f"cosine {rate}": ("cosine", rate, warmup_epochs) for rate in (0.003, 0.005)}
histories, tuned = [], {}
for name, values in schedules.items():
    changes = dict(zip(("schedule", "learning_rate", "warmup_epochs"), values, strict=True))
    changed = choices.model_copy(update={"training": choices.training.model_copy(update=changes)})
    folder = run_folder(choices, f"{pooling}-single-seed{seed}-{name.replace(' ', '-')}")
    print(name)
    trained = training.train(changed, data, pooling=pooling, structure="single", seed=seed, folder=folder)
    histories.append(trained.history.assign(schedule=name))
    if data.tuning:
        variant = {"pooling": pooling, "structure": "single"}
        frame_prob, _ = training.predict_split(trained.network, data.tuning, changed, **variant)
        tuned[name] = 100 * tuned_threshold(changed, data, frame_prob, "f_measure")[1]

# %% [markdown]
# ## 2 Validation clips
#
# > *Last three epochs*: by how much of itself the validation loss changed per epoch. A training that has learned what
# > it can changes by less than 1 %; one whose loss still falls was cut short.

# %%
curves = pd.concat(histories, ignore_index=True)
with replacing(results_folder(experiment) / "tables" / f"learning_rate_{pooling}.csv") as temporary:
    curves.drop(columns="seconds").to_csv(temporary, index=False, float_format="%.6g")
by_schedule = curves.groupby("schedule", sort=False)
last = by_schedule.validation_loss.agg(lambda loss: np.exp(np.diff(np.log(loss.tail(4))).mean()) - 1)
summary = pd.DataFrame(
    {
        "lowest validation loss": by_schedule.validation_loss.min().round(4),
        "in epoch": curves.loc[by_schedule.validation_loss.idxmin()].set_index("schedule").epoch,
        "last validation loss": by_schedule.validation_loss.last().round(4),
        "last three epochs": (100 * last).map("{:+.1f} % an epoch".format),
        "F1 of the tuning clips (%)": pd.Series(tuned, dtype=float).round(1),
    }
)
summary

# %%
figure, ax = plt.subplots(figsize=(6.4, 3.6))
sns.lineplot(curves, x="epoch", y="validation_loss", hue="schedule", style="schedule", markers=True, ax=ax)
ax.set(ylabel="validation loss (A-1)", title=f"{experiment}, {pooling}, single, seed {seed}")
ax.set_xticks(range(1, choices.training.max_epochs + 1))
plt.show()
