"""The files of a finished run: its events and scores, and that these follow from the predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from hpsed_lib import paths, runs
from hpsed_lib.dataset import Split
from hpsed_lib.decoding import decode, to_events
from hpsed_lib.errors import DataError
from hpsed_lib.networks import FrameNetwork
from hpsed_lib.params import Decoding, Experiment
from hpsed_lib.runs import event_to_show, finish_run, load_events, reference_activity, to_json
from hpsed_lib.scoring import event_activity, sed_eval_scores
from hpsed_lib.training import Trained, build_network, predict_split


@pytest.fixture(scope="module")
def finished(tiny, tiny_dataset, tmp_path_factory):
    """Metrics as read from the file, curve, predictions, and events as read from their file.

    The network was never trained; in its place stand walks between 0 and 1 that lean to the truth: they cross every
    threshold many times, so that no two operating points decode the same.
    """
    folder = tmp_path_factory.mktemp("finished")
    history = pd.DataFrame({"epoch": [1], "training_loss": [0.7], "validation_loss": [0.7], "seconds": [0.1]})
    trained = Trained(build_network(tiny, tiny_dataset, seed=0).eval(), history, best_epoch=1, resumed_after=[])
    rng = np.random.default_rng(0)
    predictions = {}

    def walks(
        network: FrameNetwork, split: Split, experiment: Experiment, *, pooling: str, structure: str
    ) -> tuple[np.ndarray, np.ndarray]:
        _, clip_prob = predict_split(network, split, experiment, pooling=pooling, structure=structure)
        truth = np.repeat(reference_activity(tiny, tiny_dataset, split), 13, axis=1)[:, : tiny.n_output_frames]
        steps = rng.normal(0, 0.8, truth.shape)
        frame_prob = (1 / (1 + np.exp(1.5 - np.cumsum(steps, axis=1) - 2 * truth))).astype(np.float32)
        predictions["test" if split is tiny_dataset.test else "tuning"] = frame_prob
        return frame_prob, clip_prob

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", folder)
        patch.setattr(runs, "predict_split", walks)
        metrics, curve = finish_run(tiny, tiny_dataset, trained, pooling="linear", structure="single", seed=0)
        events = load_events(tiny, "linear-single-seed0")
        with pytest.raises(DataError, match=r"linear-single-seed1\.tsv: not there"):
            load_events(tiny, "linear-single-seed1")
    [path] = (folder / "reproduced").rglob("linear-single-seed0.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(metrics))
    assert len(path.read_text().splitlines()) < 1200  # counts of all clips are on one line each
    return json.loads(path.read_text()), curve, predictions, events


@pytest.fixture
def decoded(tiny, tiny_dataset, finished):
    """Events of the test clips at a threshold, and sed_eval's overall scores of them."""
    names = {"filenames": tiny_dataset.test.filenames, "classes": tiny_dataset.classes}

    def decoded(threshold: float, params: Decoding = tiny.decoding) -> tuple[pd.DataFrame, dict]:
        lengths = {"params": params, "frame_duration": tiny.frame_duration}
        active = decode(finished[2]["test"], threshold=threshold, **lengths)
        events = to_events(active, **names, frame_duration=tiny.frame_duration)
        reference = tiny_dataset.test.strong_labels
        return events, sed_eval_scores(reference, events, **names, clip_duration=10.0, time_resolution=1.0)["overall"]

    return decoded


def test_every_operating_point_scores_what_its_threshold_decodes(finished, decoded):
    points = finished[0]["operating_points"]
    assert list(points) == ["fixed", "global_f_measure", "global_error_rate"]
    for name, point in points.items():
        assert decoded(point["threshold"])[1] == point["test"], name
        assert point["criterion"] == (None if name == "fixed" else name.removeprefix("global_"))
    assert len({json.dumps(point["test"]) for point in points.values()}) == len(points)
    assert points["fixed"]["threshold"] == 0.5


def test_a_systems_own_decoding_is_one_more_operating_point(tiny, tiny_dataset, finished, decoded):
    own = Decoding(threshold=0.3, median_length=1, minimum_gap=0.6, minimum_duration=0.9)
    points = runs.operating_points(tiny.model_copy(update={"own_decoding": own}), tiny_dataset, finished[2])
    assert list(points) == ["fixed", "global_f_measure", "global_error_rate", "own"]
    assert points["own"] == {"threshold": 0.3, "criterion": None, "tuning": None, "test": decoded(0.3, own)[1]}
    assert points["fixed"] == finished[0]["operating_points"]["fixed"]


def test_the_record_is_the_configured_decoding(finished):
    metrics, curve, _, _ = finished
    assert metrics["threshold"] == metrics["operating_points"]["global_f_measure"]["threshold"]
    assert metrics["test"]["overall"] == metrics["operating_points"]["global_f_measure"]["test"]
    assert metrics["tuning"]["f_measure"] == pytest.approx(curve.f_measure.max())
    assert metrics["n_thresholds_tried"] == len(curve)


def test_counts_of_the_clips_stand_in_the_order_of_the_files(tiny, tiny_dataset, finished, decoded):
    metrics, _, _, written = finished
    counts, filenames = metrics["test"]["clip_counts"], tiny_dataset.test.filenames
    assert {name: sum(of_clips) for name, of_clips in counts.items()}.items() <= metrics["test"]["overall"].items()
    reference = reference_activity(tiny, tiny_dataset, tiny_dataset.test)
    assert counts["Nref"] == reference.sum((1, 2)).tolist()
    assert len(set(counts["Nref"])) > 1
    events, _ = decoded(metrics["threshold"])
    pd.testing.assert_frame_equal(written, events, check_dtype=False)
    shape = {"classes": tiny_dataset.classes, "clip_duration": 10.0, "time_resolution": 1.0}
    for index, name in enumerate(filenames):
        active = event_activity(events[events.filename == name], filenames=[name], **shape)
        assert counts["Ntp"][index] == (active[0] & reference[index]).sum()


def test_frame_probabilities_are_counted_where_they_lie(tiny, tiny_dataset, finished):
    metrics, _, predictions, _ = finished
    test, counted = tiny_dataset.test, {name: [0] * 20 for name in ("inside", "beside", "absent")}
    by_class = test.strong_labels.groupby(["filename", "event_label"])
    for clip, filename in enumerate(test.filenames):
        for column, label in enumerate(tiny_dataset.classes):
            events = by_class.get_group((filename, label)) if (filename, label) in by_class.groups else ()
            for frame, value in enumerate(predictions["test"][clip, :, column]):
                time = (frame + 0.5) * tiny.frame_duration
                here = len(events) and ((events.onset <= time) & (time < events.offset)).any()
                where = "inside" if here else "beside" if len(events) else "absent"
                counted[where][min(int(20 * np.float64(value)), 19)] += 1
    assert metrics["frame_prob_counts"] == counted
    filename, label = event_to_show(test)
    shown = predictions["test"][test.filenames.index(filename), :, tiny_dataset.classes.index(label)]
    assert metrics["example"]["frame_prob"] == pytest.approx(shown.tolist(), abs=5.1e-5)


def test_a_metrics_file_reads_back_and_keeps_lists_of_numbers_on_a_line(tmp_path):
    metrics = {"text": "[1,  2]\n", "counts": [1, -2, 3.5e-7], "empty": [], "rows": [{"a": [4]}, None], "names": ["x"]}
    text = to_json(metrics)
    assert json.loads(text) == metrics
    assert '"counts": [1, -2, 3.5e-07]' in text
    assert '"a": [4]' in text
