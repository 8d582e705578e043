# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 07 The identity in training
#
# `single` and `hierarchical` pooling are one function with one gradient (notebook 02). Equal in exact arithmetic is
# not equal in every bit: Eqs. 3-5 and Eq. 1 round differently. This notebook trains the paper's structures side by
# side to see how far rounding carries, and what it looks like when the gradient really is another one (`appendix`).
#
# Notebook 01 must have run for the experiment.

# %%
from hpsed_lib.provenance import setting

print(setting("torch"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
import pandas as pd

from hpsed_lib import dataset
from hpsed_lib.params import load_experiment
from hpsed_lib.theory.agreement import agreement_summary, write_agreement

pd.options.display.max_rows = 100
choices = load_experiment(experiment)
data = dataset.load(choices)

# %% [markdown]
# ## 1 The same start, the same batches
#
# The three structures train the same network of this experiment, from the same weights, on the same batches, in both
# precisions, and are compared after the first step and after 20: `clip_prob` on 8 validation clips, the parameters
# one by one. Largest absolute difference from `single`:

# %%
agreement = write_agreement(choices, data)
agreement_summary(agreement).map("{:.1e}".format)

# %% [markdown]
# > The float64 rows speak of the algorithm: `hierarchical` stays at the precision of the arithmetic, after 20 steps
# > too. The float32 rows speak of what to expect in result tables, whose runs are in float32: the first step differs
# > by rounding again, and training amplifies that, so that a difference between `single` and `hierarchical` after
# > many steps says how far rounding can carry a run, and nothing about either structure. With linear softmax,
# > exponential softmax and attention, `appendix` is another algorithm from the first step on, in both precisions;
# > with max and average it is the same one. Adam's first step has the size of the learning rate wherever a gradient
# > is not zero, however small it is, so that rounding in a gradient near zero can show at once.

# %% [markdown]
# ## 2 Every parameter
#
# Of the network, for the last of these pooling functions:

# %%
chosen = agreement[agreement.pooling == agreement.pooling.iloc[-1]]
every = chosen.pivot_table(
    index="quantity", columns=["structure", "dtype", "step"], values="largest_difference", sort=False
)
every.map("{:.1e}".format)
