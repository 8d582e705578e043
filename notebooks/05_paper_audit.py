# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 05 The paper's tables, checked against themselves
#
# The columns of a row of Table 2 are not independent: they come from the same counts. This notebook tests every
# equation that must hold between them on the numbers as printed, and Table 3's "Proposed" row against Table 2.
#
# > Sections 1 to 9 look at no system and no data; section 10 has the systems of Table 3. A check that fails says that
# > the printed numbers cannot all be true at once; it does not say which of them is wrong, nor why.

# %%
from hpsed_lib.provenance import setting

print(setting("scipy", "pandas", "matplotlib"))

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from hpsed_lib import plots
from hpsed_lib.paths import results_folder
from hpsed_lib.tables import HEADINGS
from hpsed_lib.theory import audit, figures, systems

plots.use_style()
pd.options.display.max_colwidth = None
pd.options.display.float_format = "{:.3g}".format

# %% [markdown]
# ## 1 Table 2 as printed
#
# Sub., Del., Ins. and their sum ER as fractions; Pre., Rec., F1 and the changes from `single` in percent.

# %%
table2, table3 = audit.read_printed("table2"), audit.read_printed("table3")
table2.set_index(audit.KEYS).rename(columns=HEADINGS)

# %% [markdown]
# ## 2 What the columns of one row must obey
#
# sed_eval (Sec. 3.3, reference [13]) counts, in each segment $k$, the classes active in the reference, $n_k$, in the
# system's output, $m_k$, and in both, $c_k$, and defines
#
# $$S_k = \min(n_k, m_k) - c_k, \qquad D_k = \max(0, n_k - m_k), \qquad I_k = \max(0, m_k - n_k) .$$
#
# Because $\max(0, a - b) = a - \min(a, b)$,
#
# $$S_k + D_k = n_k - c_k, \qquad S_k + I_k = m_k - c_k, \qquad D_k - I_k = n_k - m_k .$$
#
# Micro-averaging sums over segments first. With $N = \sum n_k$, $R = \sum c_k / N$ and $P = \sum c_k / \sum m_k$, so
# that $\sum m_k / N = R / P$, division by $N$ gives the rates
#
# $$S + D = 1 - R, \qquad S + I = R \left(\tfrac{1}{P} - 1\right), \qquad D - I = 1 - \tfrac{R}{P},$$
#
# besides $ER = S + D + I$ and $F_1 = 2PR / (P + R)$. They hold for every system, data set and threshold.

# %% [markdown]
# ## 3 The same equations on scores computed here
#
# The committed runs of the experiment `quick`, scored by sed_eval. *deletions apart* is $S + D - (N_{ref} - N_{tp})$,
# *insertions apart* $S + I - (N_{sys} - N_{tp})$, in counts. *units*: their scores, printed with Table 2's decimals and
# put through the test of section 4; at most 1 where the row is consistent.

# %%
runs = audit.scored_runs("quick")
runs.set_index("run")

# %%
apart = (runs[["deletions_apart", "insertions_apart"]] != 0).any(axis=1)
Markdown(
    f"Of {len(runs)} runs, {apart.sum()} break an equation in the counts and {(runs.units > 1).sum()} once printed "
    "with Table 2's decimals."
)

# %% [markdown]
# ## 4 Every check on every row
#
# A printed number stands for an interval: half a unit of its last decimal to both sides. A residual (left side minus
# right side) is then an interval too, computed exactly; a check fails if 0 lies outside. Its size is given in units of
# what rounding allows, so that it fails beyond 1.
#
# *All at once* asks for one $(S, D, I, P, R)$ that fulfils all equations of a row together: with $t = R / P$ in place
# of $P$ that is a linear programme. Its unit is the factor by which every interval must be widened until there is one.

# %%
table = audit.write_audit()
rows = table.set_index(audit.KEYS)
table.query("not holds")[[*audit.KEYS, "identity", "printed", "residual_low", "residual_high", "units"]]

# %%
figure, ax = plt.subplots(figsize=(10, 6))
figures.plot_audit(table, ax=ax)
plots.save(figure, results_folder("paper") / "figures" / "audit.png")
plt.show()

# %%
joint = rows[rows.identity == audit.JOINT]
broken = table[~table.holds].groupby("identity").size()
counts = "; ".join(f"{name}: {broken.get(name, 0)} of {(table.identity == name).sum()}" for name in audit.COLUMNS)
Markdown(
    f"**{(~joint.holds).sum()} of {len(joint)} rows are inconsistent.** Consistent: "
    f"{'; '.join(' '.join(key) for key in joint.index[joint.holds])}. Failures by check: {counts}."
)

# %% [markdown]
# ## 5 Rounded or cut?
#
# The same with numbers that were cut to their decimals instead of rounded, $[v, v + u]$.

# %%
fits = joint[["units", "holds", "units_cut", "holds_cut"]]
fits

# %%
Markdown(
    f"Consistent if all numbers were rounded: {fits.holds.sum()} of {len(fits)} rows; if all were cut: "
    f"{fits.holds_cut.sum()}; under one of the two: {(fits.holds | fits.holds_cut).sum()}."
)

# %% [markdown]
# ## 6 Numbers under the wrong heading?
#
# Which exchanges of Sub., Del. and Ins. among themselves, and of Pre. with Rec., make a row consistent? All twelve
# arrangements are tried; the first that fit, with the fewest columns moved, are given. ER and F1 do not depend on them.
# *suspects*: columns without whose number, one at a time, the rest of the row is consistent.

# %%
broken_rows = joint.index[~joint.holds]
suspects = [", ".join(audit.suspects(row)) or "none" for row in table2.to_dict("records")]
explained = joint[["units", "explanation"]].assign(suspects=suspects).loc[broken_rows]
explained

# %% [markdown]
# > A fit can come by chance. As a measure of that: the ER columns of one row beside the F1 columns of another, which
# > need not fit. This also tests whether the two halves of the rows were permuted.

# %%
pairs = audit.block_pairings(table2)
others = pairs[pairs.error_row != pairs.f_measure_row]
found = explained.explanation != "none found"
Markdown(
    f"Exchanged columns make {found.sum()} of the {len(explained)} inconsistent rows consistent "
    f"({'; '.join(' '.join(key) for key in explained.index[found])}). One wrong number is enough to explain "
    f"{(explained.suspects != 'none').sum()} of them. Of {len(others)} pairs of halves from different rows, "
    f"{others.as_printed.sum()} fit as printed and {others.rearranged.sum()} in some arrangement."
)

# %%
pd.DataFrame(
    {
        "ER columns of": [audit.row_name(table2.iloc[number]) for number in others[others.rearranged].error_row],
        "F1 columns of": [audit.row_name(table2.iloc[number]) for number in others[others.rearranged].f_measure_row],
        "as printed": others[others.rearranged].as_printed.to_numpy(),
    }
)

# %% [markdown]
# ## 7 Two operating points?
#
# If the ER columns and the F1 columns of a row were taken at different thresholds, only $ER = S + D + I$ and
# $F_1 = 2PR / (P + R)$ need to hold, and the ER columns imply a recall and an F1 of their own. Each further assumption
# can be tested alone:
#
# - *one threshold* for all classes: a lower one adds activity, so that recall and $N_{sys} / N_{ref}$ change in the
#   same direction (a median filter, and leaving out short events, keep that order);
# - *best F1*: the F1 columns belong to the threshold of the best F1;
# - *best ER*: the ER columns belong to the threshold of the best ER.
#
# > "True" means *consistent with*, no more; this hypothesis asks for little and is easily met. "False" is certain.

# %%
points = audit.operating_points(table2).set_index(audit.KEYS)
points.loc[broken_rows].rename(columns=lambda name: name.replace("_", " "))

# %%
left = points.loc[explained.index[~found]]
assumptions = ["two_points", "one_threshold", "best_f_measure", "best_error_rate"]
texts = [f"{name.replace('_', ' ')}: {left[name].sum()} of {len(left)}" for name in assumptions]
Markdown(f"Rows that no exchange explains and that are consistent with {'; '.join(texts)}.")

# %% [markdown]
# ## 8 Relative changes, and Table 3
#
# Table 2's changes beside those of the printed scores, and whether these, rounded or cut to one decimal, are the
# printed ones; then Table 3's "Proposed" row minus Table 2's linear softmax with the hierarchical structure.

# %%
changes = audit.printed_changes(table2)
changes

# %%
table[table.identity.isin(audit.TABLE3)][["dataset", "printed", "residual_low", "residual_high", "holds", "holds_cut"]]

# %%
unfit = table[table.identity.isin(audit.CHANGES) & ~table.holds]
names = "; ".join(f"{audit.row_name(row)}, {row.identity} ({row.printed})" for _, row in unfit.iterrows())
Markdown(
    f"From the printed scores, {changes.rounded.sum()} of {len(changes)} changes come out by rounding and "
    f"{changes['cut'].sum()} by cutting. Not to be had by rounding from any scores that round to the printed ones: "
    f"{names or 'none'}."
)

# %% [markdown]
# ## 9 What remains

# %%
Markdown(
    f"{joint.holds.sum()} of {len(joint)} rows are consistent as printed; {found.sum()} would be with columns "
    f"exchanged; {len(left)} are left ({'; '.join(' '.join(key) for key in left.index)}), whose intervals must be "
    f"widened by factors of {joint.units[left.index].min():.1f} to {joint.units[left.index].max():.1f}. Of these, "
    f"{left.two_points.sum()} are consistent with two operating points, which does not show that there were two."
)

# %% [markdown]
# ## 10 The systems of Table 3
#
# *development* and *evaluation* are as printed, on DCASE 2017 Task 4. *again*: the system's published outputs, scored
# by sed_eval against the strong labels of the development set. *here*: its network, narrow, trained on the soundscapes
# of `esc10`, which says nothing about DCASE; *decoding* is the `common` one or the system's `own`. Empty: none.
#
# > Of all these systems one can be scored again, MLMS8. `make mlms8 DOWNLOAD=1` fetches the labels and its outputs,
# > each checked by its hash, and does it; with `DATA=<a folder of them>` nothing is fetched. `make reproduce
# > EXPERIMENT=table3_surrey`, `table3_gccaps` and `table3_wang` train the others; shown is what is published of them.

# %%
beside = systems.write_table3(table3)
shown = beside.drop(columns="common").set_index(["system", "decoding"]).fillna("")
shown.rename(columns=lambda name: name.replace("_", " "))

# %%
beside.drop_duplicates("system").set_index("system")[["common"]]

# %%
again = systems.mlms8()["test"]["overall"]
Markdown(
    f"MLMS8's outputs give ER {again['error_rate']:.4f} and F1 {100 * again['f_measure']:.2f}; the paper prints "
    f"{table3.set_index('system').development_error_rate['MLMS8 [16]']} and "
    f"{table3.set_index('system').development_f_measure['MLMS8 [16]']}."
)
