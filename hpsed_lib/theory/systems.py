"""The systems of Table 3: printed, scored again (``python -m hpsed_lib.theory.systems``: MLMS8), trained here.

Three kinds of rows stand side by side and must not be taken for each other: what the paper prints, on DCASE 2017 Task
4; a score of published outputs on the same clips; and networks trained here, narrow, on soundscapes (`OURS`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hpsed_lib import provenance
from hpsed_lib.data.dcase2017.labels import reference_events
from hpsed_lib.data.dcase2017.outputs import MLMS8_SHA256, mlms8_events
from hpsed_lib.data.synthesis import CLASSES
from hpsed_lib.errors import HpsedError
from hpsed_lib.paths import cache_folder, published_folder, read_json, replacing, results_folder
from hpsed_lib.runs import to_json
from hpsed_lib.scoring import sed_eval_scores

OURS = {
    "Surrey": ("table3_surrey", "attention", "single"),
    "GCCaps": ("table3_gccaps", "sigmoid", "single"),
    "Wang": ("table3_wang", "linear", "single"),
    "Proposed": ("esc10", "linear", "hierarchical"),
}
"""The experiment that trains a system's network here, and the variant that is the system's own."""

_TRAINED = (
    "Common: soundscapes, input, loss, epochs, batches, decoding; its own: network (narrow), pooling, learning rate"
)
COMMON = {
    "EMSI": "Quoted: neither code nor report is public; network, input, thresholds and ensemble are unknown",
    "Surrey": f"{_TRAINED}; one model, not the ensemble",
    "MLMS8": "Nothing is trained: its published outputs, the clips, labels and metric of Table 3",
    "GCCaps": f"{_TRAINED}; one epoch by validation loss, not five by the test set",
    "Wang": f"{_TRAINED}; one threshold for all classes, not one each",
    "Proposed": f"{_TRAINED}; the experiment esc10",
}
"""By system: what its row has in common with the others here, and what it has not."""

PRINTED = [f"{name}_{measure}" for name in ("development", "evaluation") for measure in ("error_rate", "f_measure")]


def score_mlms8(folder: Path, *, download: bool) -> dict[str, Any]:
    """Score MLMS8's published outputs on the development set by sed_eval, segment-based, 1 s, micro-averaged.

    `folder` holds the published labels and outputs, or they are in ``cache/``; `download` fetches what is missing.
    """
    filenames, reference = reference_events("development", folder=folder, download=download)
    shape: dict[str, Any] = {"classes": CLASSES, "clip_duration": 10.0, "time_resolution": 1.0}
    scores = sed_eval_scores(reference, mlms8_events(folder, download=download), filenames=filenames, **shape)
    versions = provenance.versions()
    return {
        "system": "MLMS8",
        "test": {name: scores[name] for name in ("overall", "class_wise")},
        "n_test_clips": len(filenames),
        "outputs_sha256": MLMS8_SHA256,
        "versions": {name: versions[name] for name in ("python", "numpy", "pandas", "sed_eval")},
    }


def mlms8() -> dict[str, Any]:
    """The published score of MLMS8's outputs, as `score_mlms8` returns it."""
    return read_json(published_folder("paper") / "mlms8.json")


def trained(system: str) -> list[dict]:
    """Published metrics of a system's runs here; none if it is not trained, or not published, yet."""
    experiment, pooling, structure = OURS[system]
    paths = (published_folder(experiment) / "metrics").glob(f"{pooling}-{structure}-seed*.json")
    return [read_json(path) for path in sorted(paths)]


def table3(printed: pd.DataFrame) -> pd.DataFrame:
    """Table 3's rows as printed (see `hpsed_lib.theory.audit.read_printed`), each beside what there is of it here.

    A row a system, and a second one where it has a decoding of its own. ``*_again`` are scores of published outputs on
    the development set, ``*_here`` means over the seeds of networks trained on soundscapes. F1 in percent; empty: none.
    """
    rows = []
    for row in printed.to_dict("records"):
        system = row["system"].partition(" ")[0]
        metrics = trained(system) if system in OURS else []
        own = [run["operating_points"]["own"]["test"] for run in metrics if "own" in run["operating_points"]]
        here = {"common": [run["test"]["overall"] for run in metrics], "own": own}
        ours = [{"decoding": name, **_scores(runs)} for name, runs in here.items() if runs] or [{"decoding": ""}]
        ours[0] |= {name: row[name] for name in PRINTED}
        if system == "MLMS8":
            again = mlms8()["test"]["overall"]
            ours[0] |= {"error_rate_again": again["error_rate"], "f_measure_again": 100 * again["f_measure"]}
        rows += [{"system": row["system"], **each, "common": COMMON[system]} for each in ours]
    columns = ["system", "decoding", *PRINTED, "error_rate_again", "f_measure_again", "error_rate_here"]
    return pd.DataFrame(rows, columns=[*columns, "f_measure_here", "f_measure_sd", "n_seeds", "common"])


def _scores(overall: list[dict]) -> dict[str, float]:
    table = pd.DataFrame(overall)
    found = {"error_rate_here": table.error_rate.mean(), "f_measure_here": 100 * table.f_measure.mean()}
    return found | {"f_measure_sd": 100 * table.f_measure.std(), "n_seeds": len(table)}


def write_table3(printed: pd.DataFrame) -> pd.DataFrame:
    """Write `table3` as a result table, ``systems.csv``, and return it."""
    table = table3(printed)
    with replacing(results_folder("paper") / "systems.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes ``reproduced/paper/mlms8.json``, and returns 1 if the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.theory.systems", description="Score MLMS8 again.")
    parser.add_argument("--data", type=Path, help="folder of DCASE's label files and MLMS8's outputs, if you have them")
    parser.add_argument("--download", action="store_true", help="fetch what is missing of them, some 5 MB")
    options = parser.parse_args(arguments)
    try:
        scores = score_mlms8(options.data or cache_folder("dcase2017_task4"), download=options.download)
    except HpsedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with replacing(results_folder("paper") / "mlms8.json") as temporary:
        temporary.write_text(to_json(scores) + "\n", encoding="utf-8")
    overall = scores["test"]["overall"]
    print(f"MLMS8, development set: ER {overall['error_rate']:.4f}, F1 {100 * overall['f_measure']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
