# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 02 Pooling functions and their gradients
#
# Does hierarchical pooling do anything? This page answers for the structure of *Hierarchical Pooling Structure for
# Weakly Labeled Sound Event Detection* (He, Shen, Zhang, arXiv:1903.11791), from the definitions alone: no data, no
# training. It goes through Secs. 2.2 to 2.4 and the appendix equation by equation, sets each printed one beside the
# one that SymPy derives, and looks at what the difference does.
#
# > Block quotes like this one are our comments, not the paper's. Every verdict below is computed, none is typed.

# %%
from hpsed_lib.provenance import setting

print(setting("numpy", "pandas", "sympy", "torch"))

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from hpsed_lib import plots
from hpsed_lib.notebook import readable
from hpsed_lib.pooling import STRUCTURES, pool
from hpsed_lib.theory import collapse, derivation, dynamics, figures
from hpsed_lib.theory.gradients import WEIGHTS, differentiate
from hpsed_lib.theory.three_ways import three_ways

plots.use_style()
pd.options.display.max_colwidth = None
pd.options.display.max_rows = 100
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
# softmax), $\exp(x_i)$ (exponential softmax), or the output of a layer of the network (attention). The weight of a
# frame depends on nothing else but that frame (Eq. 2).
#
# > Two functions of later years have one more number for each class, trained with the network: power pooling,
# > $w_i = x_i^n$ (Liu et al., 2020), and autopool, $w_i = \exp(\alpha x_i)$ (McFee et al., 2018). Here
# > $n = \alpha = 2$.

# %%
frames = torch.tensor([0.1, 0.2, 0.9, 0.6, 0.3, 0.1], dtype=torch.float64).reshape(1, -1, 1)
attention = torch.tensor([0.1, 0.1, 0.4, 0.2, 0.1, 0.1], dtype=torch.float64).reshape(1, -1, 1)
sharpness = torch.tensor([2.0], dtype=torch.float64)
x, w = frames.flatten().numpy(), attention.flatten().numpy()
weights = {name: weight(x, w, 2.0) for name, weight in WEIGHTS.items()}
shares = {name: weight / weight.sum() for name, weight in weights.items()}
pd.DataFrame({"x": x} | shares, index=range(1, 7)).rename_axis("share of the weight, frame i")

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
# > Nothing was assumed of the weights: it holds whatever they depend on. Two functions that are equal everywhere have
# > equal derivatives, by $x_i$, by $w_i$ and by every parameter of the network. So `hierarchical` and `single` are
# > the same model and, in exact arithmetic, the same training.
# >
# > **Any number of stages.** Suppose that after some stages every segment has the prediction $A / B$ and the weight
# > $B / D$, where $A = \sum w_i x_i$ and $B = \sum w_i$ run over its frames and $D$ is the same for all segments. It
# > is so for frames ($D = 1$), and one more stage of Eqs. 3 and 4 keeps it so, with $D M$ in the place of $D$. Eq. 5
# > then gives Eq. 1. The rows below are the steps of this induction, done by SymPy with indexed sums; the last five
# > are the same induction for the algorithm of section 4.

# %%
collapse.induction().map(readable)

# %% [markdown]
# > **Unequal segments, other weights.** Let a hierarchy give segment $j$, with $A_j = \sum w_i x_i$ and
# > $B_j = \sum w_i$, any weight $W_j$:
# >
# > $$y = \frac{\sum_j W_j \, A_j / B_j}{\sum_j W_j} .$$
# >
# > It is a weighted mean of the segments' predictions $A_j / B_j$ with shares $W_j / \sum W$, and Eq. 1 is one with
# > shares $B_j / \sum B$. The two agree for all predictions if and only if the shares are the same.
# >
# > **A hierarchy of weighted means collapses to single pooling exactly when, in every stage, it gives the segments
# > weights in proportion to their sums of weights, $W_j \propto B_j$.**
# >
# > (If the weights depend on the frames, "exactly when" becomes "whenever": predictions and weights cannot be varied
# > apart any more.) For two segments, one of which may stand for all the others, the difference from Eq. 1 is

# %%
collapse.difference_from_single()

# %% [markdown]
# > and it has the factor $W_1 B_2 - W_2 B_1$, the *condition* below. Eq. 4 meets it, because it divides the sums of
# > all segments by one $M$. With segments of unequal lengths $M_j$, dividing each sum by the segment's own length
# > breaks it: frames of short segments would count more. Dividing by one common $M$, or not at all, keeps it. It is
# > broken, too, as soon as a stage computes new weights from the segments' predictions, average pooling of equal
# > segments excepted.

# %%
collapse.hierarchies().map(readable)

# %% [markdown]
# > The library's four structures on the clip of section 1, in segments of 3. `mixed` is a hierarchy that does not
# > collapse: it takes the maximum within segments and the pooling function across them (section 9). Power pooling and
# > autopool collapse like the paper's five.

# %%
clip_prob = [
    [pool(frames, attention, sharpness, pooling=name, structure=s, segment_lengths=[3]).item() for name in WEIGHTS]
    for s in STRUCTURES
]
pd.DataFrame(clip_prob, index=STRUCTURES, columns=list(WEIGHTS)).rename_axis("y")

# %% [markdown]
# ## 3 The printed gradients (Sec. 2.4 and the appendix)
#
# The loss is the cross-entropy $L = -t \log y - (1 - t) \log(1 - y)$ (Eq. A-1), split by the chain rule (Eq. A-2)
# into $\partial L / \partial y$ (Eq. A-3), which does not depend on the pooling, and $\partial y / \partial x_i$ and
# $\partial y / \partial w_i$. For the linear softmax, Sec. 2.4 gives, with a single pooling structure (Eq. 6) and
# with the hierarchical one (Eq. 8),
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
# > **How SymPy derives for any $N$ and $M$.** The other frames enter Eqs. 3-5 only through the sum of their weights
# > and the sum of weight times value. So one pseudo-frame can stand for the rest of frame $i$'s segment, and one for
# > the rest of the clip; of the derivative of that small clip, SymPy eliminates the two in favour of $\hat x_j$, $y$
# > and the sums. Nothing but Eqs. 1 and 3-5 goes in. In the table, `w'_i` is $\partial w_i / \partial x_i$, `x̂_j`
# > the prediction of the segment that holds frame $i$, `Σ_j_w` a sum over that segment, `Σw` one over the clip,
# > `[i=argmax]` 1 at the largest frame and 0 elsewhere. "differs by E": the derivative is the printed expression plus
# > E. A chain rule is judged by whether its items, derived one by one, add up.

# %%
equations = derivation.gradient_verdicts().map(readable)
equations[["equation", "pooling", "quantity", "printed", "true", "true_verdict"]]

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
table = derivation.table_a1_verdicts().map(readable)
table[["equation", "pooling", "quantity", "printed", "true", "true_verdict"]]

# %% [markdown]
# > Table A-1, cell by cell, against the derivative of the hierarchical $y$. The left column, headed "single", is the
# > derivative of both structures.
# >
# > The same derivations once more for whole clips, every frame written out, for several $N$ and $M$ and for three
# > stages, in all pooling functions and for both readings of the derivative: how many were compared, and how many
# > agree.

# %%
derivation.check_concrete()

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
# > - `single`: Eq. 1, and its derivative, Table A-1 left;
# > - `hierarchical`: Eqs. 3-5, and their derivative, Table A-1 left;
# > - `appendix`: Eqs. 3-5, with a stop-gradient on the weights inside Eq. 3, Table A-1 right.
#
# The experiments use three stages (Fig. 4): 125 frames, 25 segments, 5 longer segments with the predictions
# $\tilde x_k$, one clip.
#
# > The appendix derives two stages. With the weights of all inner stages held constant, more of them give (the
# > induction of section 2)
# >
# > $$\frac{\partial y}{\partial x_i} = \frac{w_i + (\tilde x_k - y)\, w'_i}{\sum_n w_n}, \qquad
# > \frac{\partial y}{\partial w_i} = \frac{\tilde x_k - y}{\sum_n w_n} :$$
# >
# > the prediction of the *longest* segment that holds the frame stands where Table A-1 has $\hat x_j$. Its right
# > column, against three stages:

# %%
three_stages = derivation.table_a1_verdicts(n_stages=3).map(readable)
three_stages.loc[three_stages.equation == "Table A-1, hierarchical", columns]

# %% [markdown]
# ## 5 Max and average pooling
#
# Both structures share one gradient here, in the paper too (Eqs. ): the weights do not depend on $x_i$,
# as long as no other frame becomes the largest.
#
# > With the weights of Eq. A-14, Eq. 3 reads $0/0$ in every segment that does not hold the clip's largest frame.
# > Those segments have $\hat w_j = 0$, so any finite value there gives the same $y$. We take the limit of the weights
# > $x_i^n$, $n \to \infty$, which is the segment's maximum. At ties the derivative does not exist; ours goes to the
# > first of the largest frames. The gradient at two tied frames in two segments:

# %%
tied = [0.2, 0.9, 0.4, 0.9]
options = {"pooling": "max", "segment_lengths": [2]}
pd.DataFrame({s: differentiate(tied, structure=s, **options).dy_dx for s in STRUCTURES}, index=tied)

# %% [markdown]
# > The other $0/0$ are a silent segment (linear softmax, every $x_i = 0$) and a segment without any attention. They
# > take the mean of their frames, the limit for equal weights. For a silent clip that gives
# > $\partial y / \partial x_i = 1/N$ instead of none:

# %%
silent = [0.0] * 4
options = {"pooling": "linear", "segment_lengths": [2]}
pd.DataFrame({s: differentiate(silent, structure=s, **options).dy_dx for s in STRUCTURES[:3]})

# %% [markdown]
# ## 6 Three ways, one gradient
#
# > SymPy's derivative turned into a function (lambdify), automatic differentiation of the library's `pool` in
# > float64, and finite differences of Eqs. 3-5 written as loops; and the closed forms of `theory.gradients`, the
# > oracle of the tests. Every pooling function, structure and list of stages (one frame, no segment, one segment,
# > segments of one frame, two stages, three stages), on random clips and at the ends: $x = 0$, $x = 1$, ties, silent
# > segments. The last three columns are the largest absolute differences from automatic differentiation; the tests
# > assert the same table.

# %%
agreement = three_ways()
columns = ["largest_gradient", "from_sympy", "from_finite_difference", "from_closed_form"]
agreement.groupby(["pooling", "structure", "quantity"], sort=False)[columns].max()

# %% [markdown]
# The same, one row per list of stages:

# %%
agreement.groupby(["n_frames", "segment_lengths"], sort=False)[["clips", *columns]].agg(dict.fromkeys(columns, "max"))

# %% [markdown]
# ## 7 What reaches a frame
#
# > One clip of 125 frames, pooled as in Fig. 4, with one short event: its frames' probabilities, and attention
# > weights to go with them. Grey: the five longest segments.

# %%
position = np.arange(1, 126)
frame_prob = 0.05 + 0.8 * np.exp(-(((position - 58) / 4) ** 2))
attention_weights = 0.2 + 0.6 * np.exp(-(((position - 56) / 8) ** 2))

# %%
figure, ax = plt.subplots(figsize=(9, 2.4))
ax.plot(position, frame_prob, color="0.2", label="$x_i$")
ax.plot(position, attention_weights, color="0.6", linestyle="-.", label="$w_i$ (attention)")
ax.vlines([25.5, 50.5, 75.5, 100.5], 0, 1, color="0.8", linewidth=0.8)
ax.set(xlabel="frame $i$", ylabel="probability, weight", xlim=(1, 125), ylim=(0, 1))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# > The gradient of the loss at each frame, if the clip has the label ($t = 1$, above) and if it has not ($t = 0$,
# > below). Training moves a frame the other way: up where the gradient is negative. `single` stands for
# > `hierarchical` too. For attention the two have the same $\partial L / \partial x_i$ (Table A-1), so that
# > $\partial L / \partial w_i$ is shown.

# %%
figure, axes = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True)
for target, row in zip((1, 0), axes, strict=True):
    figures.plot_loss_gradients(frame_prob, target, pooling="linear", ax=row[0])
    figures.plot_loss_gradients(frame_prob, target, pooling="exponential", ax=row[1])
    figures.plot_loss_gradients(
        frame_prob, target, pooling="attention", attention=attention_weights, quantity="dL/dw", ax=row[2]
    )
axes[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# > Under `appendix` the term beside $-y$ is one number per longest segment, so the lines step where the longest
# > segments meet; `single` follows each frame. Within the segment that holds the event, the frames without the event
# > are pushed the same way as the event by `appendix`, and, with linear softmax, the other way by `single`. Attention
# > weights have one gradient per longest segment under `appendix`: the term that tells its frames apart is the one
# > that Eq. A-23 leaves out.

# %% [markdown]
# ## 8 Where it leads
#
# > In a positive clip a frame is pushed up where raising it raises $y$; in a negative clip, down. The condition,
# > solved for $x_i$ by SymPy from the derived gradients (two stages, any $N$ and $M$). Under `single` it compares the
# > frame with a share of $y$. Under `appendix` the segment's prediction enters: for linear softmax and power pooling
# > it lowers the bar for every frame of a segment; for autopool and for the weights of attention the frame itself
# > does not enter at all.

# %%
dynamics.pushed_up_where().map(readable)

# %% [markdown]
# > The same as regions of a positive clip with $y = 0.5$ (dotted), by the frame's value and its segment's prediction.
# > $n = 2$ and $\alpha = 4$, where they are needed. Exponential softmax pushes every frame up under either rule; only
# > the strength differs.

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 3.6), sharey=True)
figures.plot_push_regions(pooling="linear", y=0.5, ax=axes[0])
figures.plot_push_regions(pooling="power", y=0.5, ax=axes[1], sharpness=2.0)
figures.plot_push_regions(pooling="auto", y=0.5, ax=axes[2], sharpness=4.0)
figures.plot_push_regions(pooling="attention", y=0.5, ax=axes[3], quantity="dy/dw_i")
figure.legend(handles=figures.push_legend(), loc="outside lower center", ncols=4, frameon=False)
plt.show()

# %% [markdown]
# > **A toy bag.** Eight frames in two segments of four; one frame stands out ($x_3 = 0.6$), and one next to it a
# > little ($x_4 = 0.3$). The frames are free to move, $x_i = \sigma(z_i)$ and, for attention, $w_i = \exp(v_i)$, and
# > follow the gradient of the loss of a positive clip (a gradient flow: gradient descent with steps that tend to
# > zero). No network shares anything between frames here; a real one does.

# %%
bag = [0.15, 0.2, 0.6, 0.3, 0.2, 0.1, 0.15, 0.2]
names = ("linear", "exponential", "attention")
flows = {
    (name, structure): dynamics.gradient_flow(bag, 1, pooling=name, structure=structure, segment_lengths=[4])
    for structure in ("single", "appendix")
    for name in names
}

# %%
figure, axes = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True, sharey=True)
for ax, ((name, structure), flow) in zip(axes.flat, flows.items(), strict=True):
    figures.plot_flow(flow, segment_length=4, ax=ax).set(title=f"{name}, {structure}")
    ax.label_outer()
axes[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# > Where the flows stand at the end of that time: the frames, the largest attention weight (their sum is 1), and $y$.

# %%
ends = {key: [*flow.frame_prob[-1], flow.attention[-1].max(), flow.clip_prob[-1]] for key, flow in flows.items()}
index = pd.Index([*(f"x_{i}" for i in range(1, 9)), "largest share of attention", "y"], name="at the end")
pd.DataFrame({"start": [*bag, 1 / 8, np.nan]} | {" ".join(key): end for key, end in ends.items()}, index=index)

# %% [markdown]
# > Both rules bring $y$ near 1. With linear softmax `single` raises the frames that began above $y/2$ and lowers the
# > others; `appendix` raises every frame of the segment that holds them, and lowers the other segment. With attention
# > `single` gathers the weight at one frame, and the others, having lost theirs, stop short of 1; `appendix` spreads it
# > evenly over the segment and raises all of its frames. With exponential softmax either rule raises everything. So on
# > this bag the printed gradients make the *segment* the unit that is learned, and the true gradients the frame, with
# > linear softmax and attention. What that is worth for detection depends on how long events are, and no flow of a toy
# > bag can say it.
# >
# > The negative clip, for completeness: every frame that has any weight goes down.

# %%
negative = {
    f"{name} {structure}": dynamics.gradient_flow(bag, 0, pooling=name, structure=structure, segment_lengths=[4])
    for name in names
    for structure in ("single", "appendix")
}
rows = [*(f"x_{i}" for i in range(1, 9)), "y"]
pd.DataFrame({key: [*flow.frame_prob[-1], flow.clip_prob[-1]] for key, flow in negative.items()}, index=rows)

# %% [markdown]
# ## 9 Beyond the paper
#
# > **Table A-1 continued.** The two functions of later years, treated as the paper treats its five: the true gradient
# > (of `single` and `hierarchical`) and the one with the weights inside Eq. 3 held constant (`appendix`).

# %%
derivation.gradients_beyond().map(readable)

# %% [markdown]
# > **A hierarchy that does not collapse.** `mixed` has another operator in each level: the maximum within segments,
# > and the pooling function across them, with the weight of the frame that was chosen. Frames that are not the
# > largest of their longest segment have no weight at all, so the shares are not those of Eq. 1. What it adds to Eq.
# > 1 for two segments of two, with average pooling and with linear softmax, where $x_2 > x_1$ and $x_4 > x_3$:

# %%
collapse.maxima_of_segments("average")

# %%
collapse.maxima_of_segments("linear")

# %% [markdown]
# > Its gradient has the form of `single`, over the frames kept; the others receive none. The clip of section 7,
# > $t = 1$:

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), sharex=True)
pair = {"structures": ("single", "mixed")}
figures.plot_loss_gradients(frame_prob, 1, pooling="linear", ax=axes[0], **pair).legend(frameon=False)
figures.plot_loss_gradients(frame_prob, 1, pooling="exponential", ax=axes[1], **pair)
figures.plot_loss_gradients(
    frame_prob, 1, pooling="attention", attention=attention_weights, quantity="dL/dw", ax=axes[2], **pair
)
plt.show()

# %% [markdown]
# > Each of these trains with notebook 03: `power` and `auto` in the list of pooling functions of an experiment,
# > `mixed` in that of its structures.

# %% [markdown]
# ## 10 Verdicts
#
# > Every numbered equation of the paper, line by line, and every cell of Table A-1. Definitions are compared with
# > what the other definitions make of them, or with the place where they stood first;
# > `results/derivation/verdicts.csv` holds this table.

# %%
verdicts = derivation.write_verdicts().map(readable)
verdicts[["equation", "pooling", "quantity", "printed", "true_verdict", "stop_gradient_verdict"]]

# %% [markdown]
# > The lines that are not the derivative of Eqs. 3-5, nor what stands elsewhere:

# %%
wrong = verdicts[verdicts.true_verdict.str.startswith("differs")]
wrong[["equation", "pooling", "printed", "true_verdict", "stop_gradient_verdict"]]
