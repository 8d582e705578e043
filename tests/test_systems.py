"""Table 3's systems: MLMS8's outputs against plain loops, and the table beside the printed one."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hpsed_lib import paths
from hpsed_lib.data.dcase2017 import outputs
from hpsed_lib.errors import DataError
from hpsed_lib.paths import published_folder
from hpsed_lib.theory import systems
from hpsed_lib.theory.audit import read_printed


@pytest.fixture
def mlms8_folder(dcase2017_folder, tmp_path):
    """DCASE's labels and MLMS8's outputs in one folder."""
    beside = dcase2017_folder.parent / "mlms8"
    if not beside.is_dir():
        pytest.skip(f"no outputs of MLMS8 in {beside}")
    for number, source in enumerate((dcase2017_folder, beside)):
        shutil.copytree(source, tmp_path / "data" / str(number))
    return tmp_path / "data"


def active(path: Path) -> set[tuple[str, int, str]]:
    """Every (clip, second, class) that an event of a file touches."""
    found = set()
    with path.open(newline="") as file:
        for filename, onset, offset, label in csv.reader(file, delimiter="\t"):
            found |= {(filename, k, label) for k in range(10) if float(onset) < k + 1 and float(offset) > k}
    return found


def test_mlms8_is_scored_again_to_the_last_digit(mlms8_folder, monkeypatch, capsys):
    [labels] = mlms8_folder.rglob("groundtruth_strong_label_testing_set.csv")
    [estimated] = mlms8_folder.rglob("development_lr0.001_trial2.csv")
    reference, found = active(labels), active(estimated)
    missed, extra = (Counter(cell[:2] for cell in cells) for cells in (reference - found, found - reference))
    n_errors = (missed | extra).total()  # by segment, max(FN, FP) = S + D + I
    published = systems.mlms8()["test"]
    assert published["overall"]["error_rate"] == n_errors / len(reference)
    assert published["overall"]["f_measure"] == pytest.approx(
        2 * len(reference & found) / (len(reference) + len(found)), rel=1e-15
    )
    assert systems.score_mlms8(mlms8_folder, download=False)["test"] == published

    row = read_printed("table3").set_index("system").loc["MLMS8 [16]"]
    assert f"{published['overall']['error_rate']:.2f}" == row.development_error_rate
    assert f"{100 * published['overall']['f_measure']:.1f}" == row.development_f_measure
    monkeypatch.setattr(paths, "ROOT", mlms8_folder.parent)
    assert systems.main(["--data", str(mlms8_folder)]) == 0
    assert "ER 0.8443, F1 34.15" in capsys.readouterr().out
    written = json.loads((mlms8_folder.parent / "reproduced/paper/mlms8.json").read_text())
    assert written["test"] == published

    estimated.write_bytes(estimated.read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"lacks MLMS8's published outputs.*DOWNLOAD=1"):
        systems.score_mlms8(mlms8_folder, download=False)


def test_outputs_are_fetched_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    asked = []

    def fetch(url: str, registry: dict[str, str], folder: Path, *, or_else: str) -> None:
        asked.append((url + next(iter(registry)), folder))
        raise DataError(f"no network{or_else}")

    monkeypatch.setattr(outputs, "fetch_published", fetch)
    with pytest.raises(DataError, match="give DOWNLOAD=1"):
        outputs.mlms8_events(tmp_path, download=False)
    assert asked == []
    with pytest.raises(DataError, match="no network; put it into"):
        outputs.mlms8_events(tmp_path, download=True)
    [(url, folder)] = asked
    assert "/9c9c09d" in url
    assert url.endswith("[lr:0.001000][trial:2][threshold:0.500000].csv")
    assert folder == tmp_path / "cache" / "dcase2017_task4" / "mlms8"


def test_the_table_has_a_row_for_each_decoding_and_says_what_is_common(tmp_path, monkeypatch):
    printed = read_printed("table3")
    results = tmp_path / "results"
    (results / "paper").mkdir(parents=True)
    shutil.copy(published_folder("paper") / "mlms8.json", results / "paper")
    (results / "table3_surrey" / "metrics").mkdir(parents=True)
    for seed, (common, own) in enumerate([((0.8, 0.30), (0.9, 0.2)), ((0.6, 0.50), (0.7, 0.3))]):
        scores = [{"error_rate": error_rate, "f_measure": f_measure} for error_rate, f_measure in (common, own)]
        content = {"test": {"overall": scores[0]}, "operating_points": {"own": {"test": scores[1]}}}
        path = results / "table3_surrey" / "metrics" / f"attention-single-seed{seed}.json"
        path.write_text(json.dumps(content))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    table = systems.write_table3(printed)
    assert (tmp_path / "reproduced" / "paper" / "systems.csv").is_file()
    assert table.system.tolist() == [name for name in printed.system for _ in range(1 + name.startswith("Surrey"))]
    surrey = table[table.system == "Surrey [15]"].set_index("decoding")
    scores = surrey[["error_rate_here", "f_measure_here", "n_seeds"]]
    assert scores.loc["common"].tolist() == pytest.approx([0.7, 40, 2])
    assert scores.loc["own"].tolist() == pytest.approx([0.8, 25, 2])
    assert (surrey.development_f_measure["common"], surrey.f_measure_sd["common"]) == ("49.7", pytest.approx(200**0.5))
    rest = table[table.system != "Surrey [15]"].set_index("system")
    assert rest.f_measure_here.isna().all()
    assert rest.index[rest.f_measure_again.notna()].tolist() == ["MLMS8 [16]"]
    assert rest.common["EMSI [14]"].startswith("Quoted: neither code nor report is public")
    assert table.common.str.len().gt(0).all()
