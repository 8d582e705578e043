"""What one launch of an experiment trains: its seeds, and the settings that a run depends on."""

from __future__ import annotations

from typing import Any

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Experiment


def with_seeds(experiment: Experiment, n_seeds: int) -> Experiment:
    """The experiment with the seeds 0 to `n_seeds` - 1 in place of its own; with 0, the experiment as it is.

    Raises
    ------
    ParameterError
        The number is negative.
    """
    if n_seeds < 0:
        raise ParameterError(f"SEEDS must be 1 or more, or 0 for the experiment's own seeds, got {n_seeds}")
    if n_seeds == 0:
        return experiment
    training = experiment.training.model_copy(update={"seeds": tuple(range(n_seeds))})
    return experiment.model_copy(update={"training": training})


NOT_OF_A_RUN = {
    "pooling": ("functions", "structures"),
    "training": ("seeds",),
    "resources": ("memory", "run_time"),
}


def run_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """The settings that one run's result rests on: all but name, title, the lists of variants, memory and run time.

    Parameters
    ----------
    parameters : dict
        An experiment's, as ``model_dump(mode="json")`` gives them and the metrics files hold them.
    """
    return {
        section: {key: value for key, value in content.items() if key not in NOT_OF_A_RUN.get(section, ())}
        for section, content in parameters.items()
        if section not in ("name", "title")
    }
