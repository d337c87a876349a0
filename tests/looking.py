"""What the tests of the figures share: small statistics files, and the scripts run as users run them."""

from pathlib import Path

import numpy as np
import processes

from robust_data import records

ROOT = Path(__file__).resolve().parent.parent


def run(script, *arguments, cwd=ROOT):
    """Run a script of plot_utils; returns the finished process, its output as text."""
    return processes.run(ROOT / "plot_utils" / script, *arguments, cwd=cwd)


def start(script, *arguments):
    """Run a script, a module, in this process; wrong use raises InputError."""
    script.main(script.build_parser().parse_args(list(map(str, arguments))))


def assert_refused(process, *words):
    """One line on stderr that has these words, status 2, nothing on stdout."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1 and "error: " in process.stderr, process.stderr
    for word in words:
        assert word in process.stderr


def random_records(labels, checkpoints=4, seed=0, classes=None):
    """Records (T, N) that are random but for the consistency of losses and predictions."""
    labels = np.asarray(labels)
    classes = labels.max() + 1 if classes is None else classes
    draws = np.random.default_rng(seed)
    rows = np.zeros((checkpoints, len(labels)), dtype=records.DTYPE)
    rows["global_step"] = 10 * np.arange(checkpoints)[:, None]
    rows["index"] = np.arange(len(labels))
    rows["golden_label"] = labels
    ease = draws.gamma(1.5, 1.0, len(labels))
    for prefix, harder in (("original", 1.0), ("after_perturb", 1.8)):
        loss = ease * harder * draws.uniform(0.5, 1.5, rows.shape)
        rows[f"{prefix}_loss"] = loss
        rows[f"{prefix}_probability"] = np.exp(-loss)
        rows[f"{prefix}_pred"] = loss < 1.2
        rows[f"{prefix}_class"] = np.where(loss < 1.2, labels, (labels + 1) % classes)
    return rows


def write_statistics(path, labels, **metadata):
    """Write random records and, if there is any metadata, the JSON; returns the path and the records."""
    rows = random_records(labels)
    records.save(path, rows, {"instances": rows.shape[1], **metadata})
    if not metadata:
        path.with_suffix(".json").unlink()
    return path, rows
