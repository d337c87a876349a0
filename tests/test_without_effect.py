"""Options that nothing uses are told in one line each, with the reason; those that are used are not."""

import importlib

import pytest

from robust_data import registry

SCRIPTS = {
    "collect": "robust_data.data_statistics",
    "judge": "robust_data.evaluate_robustness",
    "subset": "robust_data.finetune_with_select_data",
    "select": "robust_data.scripts.select_instances",
}
FROM = "--statistics_source x.npy "


def told(capsys, name, line):
    registry.warn_once.cache_clear()
    importlib.import_module(SCRIPTS[name]).build_parser().parse_args(line.split())
    return [warning.removeprefix("warning: ") for warning in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    "name, line",
    [
        *(("collect", line) for line in ("--data_dir x", "--max_seq_length 9", "--encoding x", "--judge_instances 5")),
        *(("judge", "--dataset_name glue --image_size 9"), ("collect", "--optimizer sgd --adam_epsilon 1.0")),
        *(("subset", FROM + line) for line in ("--select_metric2 aum", "--word_vectors f", "--adv_steps 9")),
    ],
)
def test_an_option_without_effect_is_told(name, line, capsys):
    (warning,) = told(capsys, name, line)
    assert warning.startswith(" ".join(line.split()[-2:]) + " has no effect: ")


@pytest.mark.parametrize(
    "name, line",
    [
        ("collect", "--dataset_name npz --data_dir x --image_size 9 --adam_epsilon 1 --adv_steps 9"),
        ("collect", "--dataset_name csv --encoding latin-1 --max_seq_length 9"),
        ("collect", "--skip_corrupt 0 --download 0"),
        ("subset", FROM + "--do_attack 1 --word_vectors f --do_pgd_training 1 --adv_steps 9"),
        ("select", "--statistics x.npy --max_seq_length 9"),
    ],
)
def test_an_option_that_is_used_or_switched_off_is_not(name, line, capsys):
    assert told(capsys, name, line) == []
