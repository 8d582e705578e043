# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 10 Which way the gradients push
#
# Where `single` and `appendix` detect differently, this is where to look for the reason. Trains both with one pooling
# function, and after every epoch asks of each network which frames either gradient would push up and which down: inside
# an event, beside it in the same clip, and in clips without the class. The clips are the tuning clips, whose strong
# labels no training sees. Notebook 01 must have run; each training takes as long as one of notebook 03.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "numpy"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/
pooling: str = "linear"  # a function of hpsed_lib.pooling
seed: int = 0  # initial weights, data order, dropout

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import matplotlib.pyplot as plt
import pandas as pd

from hpsed_lib import dataset, plots
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.theory.directions import watch

plots.use_style()
choices = load_experiment(experiment)
data = dataset.load(choices)

# %% [markdown]
# ## 1 Two trainings, looked at after every epoch
#
# The same initial weights, the same order of the clips, as the runs of notebook 03 with this seed: looking changes
# nothing.

# %%
variant = {"pooling": pooling, "seed": seed}
found = [watch(choices, data, structure=structure, **variant) for structure in ("single", "appendix")]
looked = pd.concat(found, ignore_index=True)
with replacing(results_folder(experiment) / "tables" / f"directions_{pooling}.csv") as temporary:
    looked.to_csv(temporary, index=False, float_format="%.6g")

# %% [markdown]
# ## 2 Share of frames pushed up
#
# > Each network under its own gradient. *Inside* an event every frame should rise, *beside* it and where the class is
# > *absent* none; the loss knows only whether the class is in the clip.

# %%
own = looked[looked.gradient == looked.trained_as]
quantities = list(own.quantity.unique())
figure, axes = plt.subplots(len(quantities), 3, figsize=(9, 0.6 + 2.4 * len(quantities)), sharey=True, squeeze=False)
for row, quantity in zip(axes, quantities, strict=True):
    for ax, where in zip(row, ("inside", "beside", "absent"), strict=True):
        plots.plot_directions(own.query("quantity == @quantity and `where` == @where"), ax=ax)
        ax.set(title=f"{quantity}, {where}")
axes[0, 0].legend(fontsize="small")
plots.save(figure, results_folder(experiment) / "figures" / f"directions_{pooling}.png")
plt.show()

# %% [markdown]
# ## 3 The same network, the other gradient
#
# The last epoch: what each gradient would do with the frames that either training has made. *Push*: the mean slope of
# a clip's loss in the frame's logit; positive raises the frame.

# %%
last = looked[looked.epoch == looked.epoch.max()]
last.pivot_table(index=["quantity", "where"], columns=["trained_as", "gradient"], values=["up", "push"]).round(4)
