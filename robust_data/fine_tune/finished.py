"""What tells whether a fine-tuning run is finished: its model, found without torch, which takes seconds to import."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from robust_data.analysis.choice import Choice
from robust_data.records import labels_hash
from robust_data.settings import FineTune
from robust_data.train import launch, saved_models
from robust_data.train.identity import check_arguments, data_identity


def model_folder(job: FineTune) -> Path:
    """The folder of the trained model."""
    return Path(job.output_dir) / "model"


def state_path(job: FineTune) -> Path:
    """Where a run that is not finished keeps its state."""
    return Path(job.output_dir) / "run.state"


def identity(chosen: Choice) -> dict[str, str]:
    """What tells a run's data and choice from others, for its state and its model."""
    # The run trains on the very instances of the statistics, which name their labels before any data are loaded.
    labels = chosen.statistics.rows["golden_label"][0]
    index = np.concatenate([index for index in (chosen.index, chosen.second) if index is not None])
    return data_identity(labels) | {"chosen instances": labels_hash(index)[:16]}


def known_by(job: FineTune, chosen: Choice) -> dict[str, Any]:
    """What must be the same when the run is continued."""
    return dataclasses.asdict(job) | identity(chosen)


def already_finished(job: FineTune, chosen: Choice) -> bool:
    """Whether the run's model is there, which a line then says.

    Raises InputError for a model that was trained with other arguments, and for a folder that is no model.
    """
    folder = model_folder(job)
    saved_models.check_replaceable(folder)
    if job.overwrite or state_path(job).exists() or not folder.exists():
        return False
    check_arguments(saved_models.saved_arguments(folder), known_by(job, chosen), folder)
    launch.say(f"{folder} is finished already; --overwrite 1 trains again")
    return True
