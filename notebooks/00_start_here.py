# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 00 Start here
#
# Does a hierarchical pooling structure help a network that learns sound event detection from clip labels? These
# notebooks train and compare the structures of *Hierarchical Pooling Structure for Weakly Labeled Sound Event
# Detection* (He, Shen, Zhang, arXiv:1903.11791), derive its equations again and audit its tables.
#
# To read what was found, open an executed notebook in the table below; nothing needs to run. To run one yourself, open
# it and choose *Run All*: 01 first, for it makes the clips. `make reproduce` in a terminal runs all of them, and
# `make site` makes pages of them.

# %%
from hpsed_lib.provenance import setting

print(setting("torch", "numpy", "pandas"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %%
from IPython.display import Markdown

from hpsed_lib.launch.lab import contents, outcomes
from hpsed_lib.params import load_experiment

choices = load_experiment(experiment)
print(choices.title)

# %% [markdown]
# ## 1 What to read, and how long it takes
#
# *Seconds* are those of one core: as `make bench` measured them for `quick`; of notebook 03 those of a published
# training, on average. *Published* and *reproduced here* are links to executed copies.

# %%
Markdown(contents(choices))

# %% [markdown]
# ## 2 Tables and figures that are there

# %%
Markdown(outcomes(choices))
