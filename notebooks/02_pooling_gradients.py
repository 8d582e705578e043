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
# # 02 Pooling functions and their gradients
#
# Follows Secs. 2.2 to 2.4 and the appendix of the paper, equation by equation. Each printed gradient is set beside
# the one that SymPy derives from the paper's definitions (Eqs. 1 and 3-5, Table 1). The last table compares SymPy,
# automatic differentiation and the closed forms, number by number.
#
# > Block quotes like this one are our comments, not the paper's. Every verdict below is computed, none is typed.

# %%
import platform

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sympy
import torch

from hpsed_lib import dataset, derivation
from hpsed_lib.agreement import agreement_summary, write_agreement
from hpsed_lib.gradients import dy_dx
from hpsed_lib.params import load_experiment
from hpsed_lib.plots import plot_frame_gradients, use_style
from hpsed_lib.pooling import POOLINGS, STRUCTURES, pool

print(f"python {platform.python_version()}, numpy {np.__version__}, pandas {pd.__version__}")
print(f"sympy {sympy.__version__}, torch {torch.__version__}, device cpu")

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/

# %%
use_style()
pd.options.display.max_colwidth = None
pd.options.display.float_format = "{:.3g}".format

# %% [markdown]
# ## 1 Pooling functions (Sec. 2.2)
#
# A clip has $N$ frames; $x_i \in [0, 1]$ is the probability of one class in frame $i$, and $w_i$ the frame's weight.
# The clip's probability is (Eq. 1)
#
# $$y = \frac{\sum_{i=1}^N w_i x_i}{\sum_{i=1}^N w_i} .$$
#
# Table 1 defines the weights: $1$ at the largest frame and $0$ elsewhere (max), $1/N$ (average), $x_i$ (linear
# softmax), $\exp(x_i)$ (exponential softmax), or the output of a layer of the network (attention).

# %%
frames = torch.tensor([0.1, 0.2, 0.9, 0.6, 0.3, 0.1], dtype=torch.float64).reshape(1, -1, 1)
attention = torch.tensor([0.1, 0.1, 0.4, 0.2, 0.1, 0.1], dtype=torch.float64).reshape(1, -1, 1)
weights = {name: weight(frames, attention).flatten().numpy() for name, weight in POOLINGS.items()}
pd.DataFrame({"x": frames.flatten().numpy()} | weights, index=range(1, 7)).rename_axis("frame i")

# %% [markdown]
# ## 2 The hierarchical structure (Sec. 2.3)
#
# Frames are cut into segments of $M$; each segment $j$ gets a prediction (Eq. 3) and a weight (Eq. 4), and the clip's
# probability is their weighted mean (Eq. 5):
#
# $$\hat x_j = \frac{\sum_{i \in j} w_i x_i}{\sum_{i \in j} w_i}, \qquad
# \hat w_j = \frac{1}{M} \sum_{i \in j} w_i, \qquad
# y = \frac{\sum_j \hat w_j \hat x_j}{\sum_j \hat w_j} .$$
#
# > **The value is that of Eq. 1.** Multiply Eqs. 3 and 4: the segment's sum of weights cancels,
# >
# > $$\hat w_j \hat x_j = \frac{1}{M} \sum_{i \in j} w_i x_i .$$
# >
# > Put this and Eq. 4 into Eq. 5. Every frame is in one segment, so both sums run over the whole clip, and $M$
# > cancels:
# >
# > $$y = \frac{\sum_j \sum_{i \in j} w_i x_i / M}{\sum_j \sum_{i \in j} w_i / M} = \frac{\sum_i w_i x_i}{\sum_i w_i}.$$
# >
# > The numerator and denominator of a stage are the means of those of the stage before, so the same holds for any
# > number of stages. Nothing was assumed of the weights: it holds whatever they depend on, and two functions that are
# > equal everywhere have equal derivatives, by $x_i$, by $w_i$ and by the network's parameters.
# >
# > For max pooling Eq. 3 needs its limit first (section 5).

# %%
clip_prob = [
    [pool(frames, attention, pooling=name, structure=s, segment_lengths=[3]).item() for name in POOLINGS]
    for s in STRUCTURES
]
pd.DataFrame(clip_prob, index=STRUCTURES, columns=list(POOLINGS)).rename_axis("y")

# %% [markdown]
# > SymPy on Eqs. 3-5 against Eq. 1, in two stages and in three: the value `y`, then its true derivatives. The row
# > "any" has a weight $f(x_i)$ left open.

# %%
derivation.symbolic_identities()

# %% [markdown]
# ## 3 The printed gradients (Sec. 2.4 and the appendix)
#
# The loss is the cross-entropy $L = -t \log y - (1 - t) \log(1 - y)$ (Eq. A-1), split by the chain rule (Eq. A-2) into
# $\partial L / \partial y$ (Eq. A-3), which does not depend on the pooling, and $\partial y / \partial x_i$ and
# $\partial y / \partial w_i$.

# %%
derivation.symbolic_loss()

# %% [markdown]
# For the linear softmax, Sec. 2.4 gives with a single pooling structure (Eq. 6) and with the hierarchical one (Eq. 8)
#
# $$\frac{\partial y}{\partial x_i} = \frac{2 x_i - y}{\sum_k x_k}, \qquad
# \frac{\partial y}{\partial x_i} = \frac{x_i + \hat x_j - y}{\sum_k x_k} ,$$
#
# and the appendix, for any weight, goes from the chain rule (Eq. A-7) through its first item (Eq. A-8) and its second
# (Eqs.) to (Eq. A-11)
#
# $$\frac{\partial y}{\partial x_i} = \frac{w_i}{\sum_k w_k} +
# \frac{\hat x_j - y}{\sum_k w_k} \sum_{n \in j} \frac{\partial w_n}{\partial x_i} .$$
#
# Eqs. put the weights of Table 1 into it; Table A-1 collects the results.
#
# > The next table sets each printed expression beside the derivative of Eqs. 3-5 (of Eq. 3 or 5 alone where the
# > equation is about one factor). `w'_i` is $\partial w_i / \partial x_i$, `x̂_j` the prediction of the segment that
# > holds frame $i$, `Σ_j` a sum over that segment. "differs by E": the derivative is the printed expression plus E.

# %%
equations = derivation.symbolic_equations()
equations[["equation", "pooling", "quantity", "printed", "true_derivative", "true_verdict"]]

# %% [markdown]
# > Eqs. 6 and 8 are two different expressions for the derivative of one function. Eq. 6 is its derivative.
# >
# > **What Eq. A-8 drops.** Eq. 3 divides by a sum of weights, and the weights of linear and exponential softmax
# > depend on $x_i$. Eq. A-8 takes $\partial \hat x_j / \partial x_i = w_i / \sum_{n \in j} w_n$, which holds where
# > they are constant; otherwise
# >
# > $$\frac{d \hat x_j}{d x_i} = \frac{w_i}{\sum_{n \in j} w_n} + \frac{(x_i - \hat x_j)\, w'_i}{\sum_{n \in j} w_n} .$$
# >
# > The second term, times $\partial y / \partial \hat x_j = \sum_{n \in j} w_n / \sum_k w_k$, is what Eqs. 8, A-11,
# > A-18 and A-20 lack. Eq. A-7 is right if its $\partial \hat x_l / \partial x_i$ is read as this total derivative.
# > In the sum the $\hat x_j$ of the two items cancel: the segment's prediction leaves the gradient.
# >
# > **What Eq. A-23 drops.** Attention changes $y$ through $\hat w_j$ and through $\hat x_j$; Eq. A-23 has the first
# > path only. The other is
# >
# > $$\frac{\partial y}{\partial \hat x_j} \frac{\partial \hat x_j}{\partial w_i} = \frac{x_i - \hat x_j}{\sum w_k} .$$

# %%
table = derivation.symbolic_table()
table[["equation", "pooling", "quantity", "printed", "true_derivative", "true_verdict"]]

# %% [markdown]
# > Table A-1, cell by cell, against the derivative of the hierarchical $y$. The left column, headed "single", is the
# > derivative of both structures.

# %% [markdown]
# ## 4 The algorithm that the printed gradients belong to
#
# > Hold the weights inside Eq. 3 constant in the backward pass, keep those of Eqs. 4 and 5. With
# > $\mathrm{sg}(\cdot)$, the stop-gradient, which changes no value,
# >
# > $$\hat x_j = \frac{\sum_{i \in j} \mathrm{sg}(w_i)\, x_i}{\sum_{i \in j} \mathrm{sg}(w_i)}$$
# >
# > in the place of Eq. 3, and Eqs. 4 and 5 as they are.
# >
# > This is the structure `appendix`. The paper does not mention a stop-gradient; whether its experiments had one, we
# > do not know.

# %%
columns = ["equation", "pooling", "quantity", "printed", "stop_gradient", "stop_gradient_verdict"]
equations[columns]

# %%
table[columns]

# %% [markdown]
# > So there are three arms:
# >
# > | structure | forward | backward |
# > |---|---|---|
# > | `single` | Eq. 1 | true gradient, Table A-1 left |
# > | `hierarchical` | Eqs. 3-5 | true gradient, Table A-1 left |
# > | `appendix` | Eqs. 3-5 | stop-gradient inside Eq. 3, Table A-1 right |
#
# The experiments use three stages (Fig. 4): 125 frames, 25 segments, 5 longer segments with the predictions
# $\tilde x_k$, one clip.
#
# > The appendix derives two stages. With the weights of both inner stages held constant, three give
# >
# > $$\frac{\partial y}{\partial x_i} = \frac{w_i + (\tilde x_k - y)\, w'_i}{\sum_n w_n}$$
# >
# > $$\frac{\partial y}{\partial w_i} = \frac{\tilde x_k - y}{\sum_n w_n} :$$
# >
# > the prediction of the *longest* segment that holds the frame stands where Table A-1 has $\hat x_j$.

# %%
derivation.symbolic_three_stages()[columns]

# %% [markdown]
# ## 5 Max and average pooling
#
# Both structures share one gradient here, in the paper too (Eqs. ): the weights do not depend on $x_i$, as
# long as no other frame becomes the largest.
#
# > With the weights of Eq. A-14, Eq. 3 reads $0/0$ in every segment that does not hold the clip's largest frame.
# > Those segments have $\hat w_j = 0$, so any finite value there gives the same $y$. We take the limit of the weights
# > $x_i^n$, $n \to \infty$, which is the segment's maximum. At ties the derivative does not exist; ours goes to the
# > first of the largest frames. The gradient at two tied frames in two segments:

# %%
tied = [0.2, 0.9, 0.4, 0.9]
pd.DataFrame({s: dy_dx(tied, pooling="max", structure=s, segment_lengths=[2]) for s in STRUCTURES}, index=tied)

# %% [markdown]
# > The other $0/0$ are a silent segment (linear softmax, every $x_i = 0$) and a segment without any attention. They
# > take the mean of their frames, the limit for equal weights. For a silent clip that gives
# > $\partial y / \partial x_i = 1/N$ instead of none:

# %%
silent = [0.0] * 4
pd.DataFrame({s: dy_dx(silent, pooling="linear", structure=s, segment_lengths=[2]) for s in STRUCTURES}, index=silent)

# %% [markdown]
# ## 6 Three ways, one gradient
#
# > SymPy's derivative turned into a function (lambdify), automatic differentiation of `pool` in float64, and the
# > closed forms of `hpsed_lib.gradients`, at random clips of 8 frames in three stages. The last two columns are
# > largest absolute differences. `tests/test_derivation.py` asserts the same table.

# %%
derivation.three_ways()

# %% [markdown]
# ## 7 What reaches a frame
#
# > One clip of 125 frames, pooled as in Fig. 4, with one short event: its frames' probabilities, attention weights to
# > go with them, and the gradient at each frame. `single` stands for `hierarchical` too.

# %%
position = np.arange(1, 126)
frame_prob = 0.05 + 0.8 * np.exp(-(((position - 58) / 4) ** 2))
attention_weights = 0.2 + 0.6 * np.exp(-(((position - 56) / 8) ** 2))

# %%
figure, axes = plt.subplots(2, 2, figsize=(9, 5.5), sharex=True)
axes[0, 0].plot(position, frame_prob, color="0.2", label="$x_i$")
axes[0, 0].plot(position, attention_weights, color="0.6", linestyle="-.", label="$w_i$ (attention)")
axes[0, 0].set(title="one clip", ylabel="probability, weight", ylim=(0, 1))
axes[0, 0].legend(frameon=False)
plot_frame_gradients(frame_prob, pooling="linear", ax=axes[0, 1]).legend(frameon=False)
plot_frame_gradients(frame_prob, pooling="exponential", ax=axes[1, 0])
plot_frame_gradients(frame_prob, pooling="attention", attention=attention_weights, quantity="dy/dw", ax=axes[1, 1])
axes[0, 1].set_xlabel("")
plt.show()

# %% [markdown]
# > Under `appendix` the term beside $-y$ is one number per longest segment, so the lines step where the longest
# > segments meet; `single` follows each frame. For attention the left and right $\partial y / \partial x_i$ of Table
# > A-1 are the same, and $\partial y / \partial w_i$ is shown. Within a longest segment, `appendix` gives every
# > attention weight the same gradient: the term that tells its frames apart is the one that Eq. A-23 leaves out.

# %% [markdown]
# ## 8 The identity in training
#
# > Equal in exact arithmetic is not equal in every bit: Eqs. 3-5 and Eq. 1 round differently. Here the three structures
# > train the same network of this experiment, from the same weights, on the same batches, in both precisions, and are
# > compared after the first step and after 50: `clip_prob` on 8 validation clips, the parameters one by one. Adam's
# > first step has the size of the learning rate wherever a gradient is not zero, however small it is, so
# > rounding in a gradient near zero can show at once.

# %%
choices = load_experiment(experiment)
data = dataset.load(choices)
agreement = write_agreement(choices, data)
agreement_summary(agreement).map("{:.1e}".format)

# %% [markdown]
# > Largest absolute difference from `single`. The float64 rows speak of the algorithm: `hierarchical` stays at the
# > precision of the arithmetic, after 50 steps too. The float32 rows speak of what to expect in result tables, whose
# > runs are in float32: the first step differs by rounding again, and training amplifies that, so that a difference
# > between `single` and `hierarchical` after many steps says how far rounding can carry a run, and nothing about either
# > structure. With linear softmax, exponential softmax and attention, `appendix` is another algorithm from the first
# > step on, in both precisions; with max and average it is the same one (section 5).

# %% [markdown]
# Every parameter of the network, for the last of these pooling functions:

# %%
chosen = agreement[agreement.pooling == choices.pooling.functions[-1]]
every = chosen.pivot_table(
    index="quantity", columns=["structure", "dtype", "step"], values="largest_difference", sort=False
)
every.map("{:.1e}".format)
