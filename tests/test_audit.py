"""The audit of the paper's tables: on sed_eval's scores, which must pass, and on bent ones, which must not."""

import json
from decimal import Decimal
from fractions import Fraction

import matplotlib.pyplot as plt
import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpsed_lib.errors import DataError
from hpsed_lib.paths import published_folder
from hpsed_lib.scoring import evaluate_by_sed_eval, segment_counts
from hpsed_lib.tables import PERCENTAGES, RATES
from hpsed_lib.theory import audit
from hpsed_lib.theory.figures import plot_audit

COLUMNS = RATES + PERCENTAGES
ASSUMPTIONS = ["two_points", "one_threshold", "best_f_measure", "best_error_rate"]
CLASSES = ["a", "b", "c"]
event = st.builds(
    lambda label, onset, length: {"event_label": label, "onset": onset / 10, "offset": (onset + length) / 10},
    st.sampled_from(CLASSES),
    st.integers(0, 90),
    st.integers(1, 60),
)
clips = st.lists(st.tuples(st.lists(event, max_size=5), st.lists(event, max_size=5)), min_size=1, max_size=4)


def row_of(n_ref: int, n_sys: int, n_tp: int, substitutions: int) -> dict[str, str]:
    """A row as printed from counts alone."""
    deletions, insertions = n_ref - n_tp - substitutions, n_sys - n_tp - substitutions
    errors = [substitutions, deletions, insertions, substitutions + deletions + insertions]
    scores = [n_tp / n_sys, n_tp / n_ref, 2 * n_tp / (n_sys + n_ref)]
    values = [count / n_ref for count in errors] + [100 * score for score in scores]
    return {name: f"{value:.2f}" for name, value in zip(COLUMNS, values, strict=True)}


def hold(row: dict[str, str], convention: str = "rounded") -> bool:
    """Whether each identity holds by itself."""
    return all(low <= 0 <= high for low, high in audit.identity_residuals(row, convention=convention).values())


CONSISTENT = row_of(5000, 3900, 2100, 700)  # no two of its numbers are close
TABLE2, TABLE3 = audit.read_printed("table2"), audit.read_printed("table3")
printed_rows = st.one_of(
    st.sampled_from(TABLE2.to_dict("records")),
    st.lists(st.floats(0.05, 0.9), min_size=7, max_size=7).map(
        lambda values: audit.as_printed(dict(zip(COLUMNS, values, strict=True)))
    ),
)


@pytest.fixture(scope="module")
def table():
    return audit.audit(TABLE2, TABLE3)


class TestPrintedNumbers:
    @given(st.integers(-5000, 5000), st.integers(0, 3), st.floats(0.001, 0.999))
    def test_an_interval_holds_what_prints_that_way(self, n, decimals, place):
        text = f"{Decimal(n).scaleb(-decimals):f}"
        for convention in audit.CONVENTIONS:
            low, high = audit.printed_interval(text, convention=convention)
            assert high - low == Fraction(1, 10**decimals)
            assert audit.printed_interval(text, convention=convention, percent=True) == (low / 100, high / 100)
            inside = (low + (high - low) * Fraction(place)) * 10**decimals
            assert (round(inside) if convention == "rounded" else int(inside)) == n

    @pytest.mark.parametrize("text", ["", "***", "1e3", "0,25", "nan"])
    def test_what_is_no_number_is_named(self, text):
        with pytest.raises(DataError, match="decimal number as printed"):
            audit.printed_interval(text)


class TestIdentities:
    @settings(max_examples=60, deadline=None)
    @given(clips)
    def test_they_hold_on_sed_evals_scores_exact_and_printed(self, lists):
        metrics = evaluate_by_sed_eval(lists, classes=CLASSES, clip_duration=10.0, time_resolution=1.0)
        counts, scores = metrics.overall, {**metrics.overall_error_rate(), **metrics.overall_f_measure()}
        assume(counts["Ntp"] > 0)
        for name, (columns, residual) in audit.IDENTITIES.items():
            assert residual(*(scores[column] for column in columns)) == pytest.approx(0), name
        assert counts["S"] + counts["D"] == counts["Nref"] - counts["Ntp"]
        assert counts["S"] + counts["I"] == counts["Nsys"] - counts["Ntp"]
        row = audit.as_printed(scores)
        assert hold(row)
        assert audit.is_feasible(row)
        assert audit.explain(row) == "as printed"

    @settings(max_examples=150, deadline=None)
    @given(printed_rows, st.sampled_from(audit.CONVENTIONS))
    def test_their_ends_are_those_of_interval_arithmetic(self, row, convention):
        """mpmath's intervals enclose the range, and closely where each variable stands once in a formula."""
        intervals = audit.row_intervals(row, convention=convention)
        s, d, i, er, p, r, f = (mpmath.iv.mpf([float(end) for end in intervals[name]]) for name in COLUMNS)
        expected = [er - s - d - i, s + d - 1 + r, s + i - r * (1 / p - 1), d - i - 1 + r / p, f - 2 / (1 / p + 1 / r)]
        for ours, theirs in zip(audit.identity_residuals(row, convention=convention).values(), expected, strict=True):
            assert [float(end) for end in ours] == pytest.approx([float(theirs.a), float(theirs.b)], abs=1e-12)

    def test_a_row_that_says_nothing_is_refused(self):
        with pytest.raises(DataError, match=r"precision 0\.00 may be 0"):
            audit.identity_residuals({**CONSISTENT, "precision": "0.00"})


class TestAllAtOnce:
    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_a_row_printed_from_counts_is_feasible(self, data):
        n_ref, n_sys = data.draw(st.integers(50, 9000)), data.draw(st.integers(50, 9000))
        n_tp = data.draw(st.integers(5, min(n_ref, n_sys)))
        row = row_of(n_ref, n_sys, n_tp, data.draw(st.integers(0, min(n_ref, n_sys) - n_tp)))
        assert audit.is_feasible(row)
        assert audit.smallest_widening(row) <= 1
        assert audit.is_feasible(row, widening=1.5)
        assert audit.suspects(row) == COLUMNS

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(COLUMNS), st.integers(-40, 40), st.sampled_from(audit.CONVENTIONS))
    def test_feasible_rows_pass_each_identity_and_points_found_by_search_are_feasible(self, column, shift, convention):
        """A search over a fine grid of (S, R, Nsys/Nref) finds a solution only where the programme does."""
        scale = 1 if column in PERCENTAGES else 0.01
        row = {**CONSISTENT, column: f"{float(CONSISTENT[column]) + shift * scale / 10:.2f}"}
        ends = {name: np.array(i, float) for name, i in audit.row_intervals(row, convention=convention).items()}
        columns = ("substitution_rate", "recall", "precision")
        s, r, p = np.meshgrid(*(np.linspace(*ends[name], 15) for name in columns))
        t = r / p
        values = [s, 1 - r - s, t - r - s, 1 - 2 * r + t - s, p, r, 2 * r / (1 + t)]
        inside = np.ones_like(s, bool)
        for (low, high), value in zip(ends.values(), values, strict=True):
            inside &= (value >= low - 1e-12) & (value <= high + 1e-12)
        feasible = audit.is_feasible(row, convention=convention)
        assert feasible or not inside.any()
        assert not feasible or hold(row, convention)

    def test_it_sees_what_no_single_identity_sees_and_the_widening_is_where_feasibility_begins(self):
        """S + I = 0.36 and S <= 0.125 ask for I >= 0.235: then ER = 1 - R + I >= 0.815, but 0.80 is printed."""
        row = {**CONSISTENT, "substitution_rate": "0.12", "deletion_rate": "0.46", "insertion_rate": "0.23"}
        negative = {**row_of(1000, 1000, 1000, 0), "recall": "100.20", "f_measure": "100.10"}  # D = -0.002
        assert hold(row)
        assert hold(negative)
        for impossible in (row, negative, {**CONSISTENT, "deletion_rate": "0.48"}):
            widening = audit.smallest_widening(impossible)
            assert widening > 1
            assert audit.is_feasible(impossible, widening=widening)
            assert not audit.is_feasible(impossible, widening=widening * (1 - 1e-3))
            assert not audit.is_feasible(impossible)

    @pytest.mark.parametrize("column", COLUMNS)
    def test_one_wrong_number_is_among_the_suspects(self, column):
        row = {**CONSISTENT, column: f"{float(CONSISTENT[column]) + (0.1 if column in RATES else 10):.2f}"}
        assert not audit.is_feasible(row)
        assert column in audit.suspects(row)


class TestArrangements:
    def test_there_are_twelve_and_the_fewest_changes_come_first(self):
        every = audit.ARRANGEMENTS
        assert len({tuple(sorted(one.items())) for one in every}) == len(every) == 6 * 2
        assert all(set(one) == set(one.values()) and all(a != b for a, b in one.items()) for one in every)
        assert [len(one) for one in every] == sorted(len(one) for one in every)
        moved = [*RATES[:3], *PERCENTAGES[:2]], [*RATES[1:3], RATES[0], "recall", "precision"]
        words = "Sub., Del., Ins. printed under Del., Ins., Sub.; Pre. and Rec. exchanged"
        assert audit.describe_arrangement(dict(zip(*moved, strict=True))) == words

    @pytest.mark.parametrize("arrangement", audit.ARRANGEMENTS, ids=audit.describe_arrangement)
    def test_an_exchange_of_columns_is_found_again(self, arrangement):
        printed = {**CONSISTENT, **{origin: CONSISTENT[column] for column, origin in arrangement.items()}}
        assert arrangement in audit.consistent_arrangements(printed)
        assert audit.describe_arrangement(arrangement) in audit.explain(printed)
        for name in ("ER = S + D + I", "F1 = 2PR/(P + R)"):  # they do not depend on it
            assert audit.identity_residuals(printed)[name] == audit.identity_residuals(CONSISTENT)[name]


class TestOperatingPoints:
    def points(self, errors: dict[str, str], scores: dict[str, str]) -> pd.Series:
        """Of a row with the ER columns of one and the F1 columns of another."""
        row = {name: errors[name] for name in RATES} | {name: scores[name] for name in PERCENTAGES}
        table = pd.DataFrame([{"dataset": "d", "pooling": "linear", "structure": "single", **row}])
        return audit.operating_points(table).iloc[0]

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_two_thresholds_of_one_system_pass(self, seed):
        """ER columns where ER is best, F1 columns where F1 is best: scores of a system with one threshold for all."""
        rng = np.random.default_rng(seed)
        truth = rng.random((200, 4)) < 0.3
        prob = np.clip(0.4 * truth + 0.6 * rng.random(truth.shape), 0, 1)
        rows = []
        for threshold in np.linspace(0.2, 0.8, 13):
            counts = segment_counts(truth[None], prob[None] > threshold)
            if counts["Ntp"]:
                rows.append(row_of(*(counts[name] for name in ("Nref", "Nsys", "Ntp", "S"))))
        errors, scores = min(rows, key=lambda r: float(r["error_rate"])), max(rows, key=lambda r: float(r["f_measure"]))
        points = self.points(errors, scores)
        assert points[ASSUMPTIONS].all()
        own = float(errors["f_measure"]) / 100
        assert points.f_measure_low - 1e-4 <= own <= points.f_measure_high + 1e-4
        assert points.recall_low - 1e-4 <= float(errors["recall"]) / 100 <= points.recall_high + 1e-4

    def test_what_cannot_be_is_seen(self):
        points = self.points(CONSISTENT, row_of(5000, 4500, 1500, 1500))
        assert points.two_points
        assert not points.best_f_measure  # the ER columns have the better F1
        assert not points.one_threshold  # more found and more hit, but the other way round
        points = self.points({**CONSISTENT, "error_rate": "0.99"}, CONSISTENT)
        assert not points[ASSUMPTIONS].any()
        points = self.points(row_of(4000, 9000, 2000, 1500), row_of(4000, 40, 38, 1))  # loud, and nearly silent
        assert points.one_threshold
        assert not points.best_error_rate


class TestThePaper:
    def test_every_row_and_check_is_there_once(self, table):
        assert len(table) == 12 * (len(audit.IDENTITIES) + 1) + 6 * len(audit.CHANGES) + 2 * len(audit.TABLE3)
        assert not table.duplicated([*audit.KEYS, "identity"]).any()
        assert set(table.identity) == set(audit.COLUMNS)

    def test_units_and_verdicts_say_the_same(self, table):
        for suffix in ("", "_cut"):
            low, high, units, holds = (table[f"{part}{suffix}"] for part in audit._RESULT)
            assert (holds == (units.abs() <= 1)).all()
            known = low.notna()
            assert (holds == ((low <= 0) & (high >= 0)))[known].all()
            # No verdict rests on an end of an interval, where closed and half-open ones differ.
            assert (np.minimum(low.abs(), high.abs())[known] > 1e-9).all()
            assert ((units.abs() - 1).abs() > 1e-3).all()

    def test_the_committed_table_is_this_one(self, table):
        committed = pd.read_csv(published_folder("paper") / "audit.csv")
        assert committed.columns.tolist() == table.columns.tolist()
        pd.testing.assert_frame_equal(committed, table, check_dtype=False, rtol=1e-4, atol=1e-6)

    def test_changes_are_those_of_pandas(self):
        values = TABLE2[["error_rate", "f_measure"]].astype(float)
        relative = 100 * (values.iloc[1::2].to_numpy() / values.iloc[::2].to_numpy() - 1)
        changes = audit.printed_changes(TABLE2)
        assert changes.recomputed.to_numpy() == pytest.approx(relative.ravel())
        assert (changes.rounded == (changes.recomputed.round(1) == changes.printed)).all()
        assert (changes["cut"] == (np.trunc(10 * changes.recomputed) / 10 == changes.printed)).all()

    def test_an_unfitting_change_and_table_3_fail(self):
        table2, table3 = TABLE2[TABLE2.pooling == "linear"].copy(), TABLE3.copy()
        table2.loc[1, "f_measure_change"] = "9.1"
        table3.loc[table3.system == "Proposed", "evaluation_error_rate"] = "0.71"
        verdicts = audit.audit(table2, table3).query("structure == 'hierarchical'")
        holds = verdicts.set_index(["dataset", "identity"])["holds"]
        assert holds["development"][["F1 change", "ER change"]].tolist() == [False, True]
        assert holds["evaluation"][["ER of Table 3", "F1 of Table 3"]].tolist() == [False, True]

    def test_pairings_have_the_rows_themselves_on_the_diagonal(self):
        pairs, rows = audit.block_pairings(TABLE2.head(4)), TABLE2.head(4).to_dict("records")
        assert len(pairs) == 16
        own = pairs[pairs.error_row == pairs.f_measure_row]
        assert own.as_printed.tolist() == [audit.is_feasible(row) for row in rows]
        assert own.rearranged.tolist() == [audit.explain(row) != "none found" for row in rows]
        crossed = {**CONSISTENT, **dict.fromkeys(RATES, "0.50"), "error_rate": "1.50"}
        fitting = audit.block_pairings(pd.DataFrame([CONSISTENT, crossed])).as_printed
        assert fitting.tolist() == [True, True, False, False]

    def test_published_runs_pass_and_where_none_is_complete_there_is_none(self, tmp_path, monkeypatch):
        monkeypatch.setattr(audit, "results_folder", lambda name: tmp_path / name)  # none is reproduced here
        runs, metrics = audit.scored_runs("quick"), published_folder("quick") / "metrics"
        assert len(runs) == len(list(metrics.glob("*.json"))) > 0
        assert (runs[["deletions_apart", "insertions_apart"]] == 0).all(axis=None)
        assert (runs.units <= 1).all()
        overall = json.loads((metrics / f"{runs.run[0]}.json").read_text())["test"]["overall"]
        assert runs.Ntp[0] == overall["Ntp"]
        monkeypatch.setattr(audit, "published_folder", lambda name: tmp_path / name)
        assert audit.scored_runs("quick").empty
        (tmp_path / "quick/metrics").mkdir(parents=True)
        (tmp_path / "quick/metrics/.linear-single-seed0.unfinished.host.7.json").touch()
        assert audit.scored_runs("quick").empty

    def test_the_figure_marks_what_fails(self, table):
        _, ax = plt.subplots()
        plot_audit(table, ax=ax)
        assert sum(patch.get_hatch() is not None for patch in ax.patches) == (~table.holds).sum()
        assert sum(text.get_weight() == "bold" for text in ax.texts) == (~table.holds).sum()
        assert len(ax.texts) == len(table)
        assert [label.get_text() for label in ax.get_xticklabels()] == audit.COLUMNS
        assert len(ax.get_yticklabels()) == 12
        plt.close("all")
