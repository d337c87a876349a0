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
    "name, line, warning",
    [
        ("collect", "--data_dir x", "--data_dir x has no effect: --dataset_name digits comes with the project"),
        ("collect", "--max_seq_length 9", "--max_seq_length 9 has no effect: --dataset_name digits holds images"),
        (
            "judge",
            "--dataset_name glue --image_size 9",
            "--image_size 9 has no effect: --dataset_name glue holds texts",
        ),
        ("collect", "--encoding x", "--encoding x has no effect: it is for csv and tsv, and --dataset_name is digits"),
        (
            "collect",
            "--optimizer sgd --adam_epsilon 1",
            "--adam_epsilon 1.0 has no effect: it is for --optimizer adamw",
        ),
        ("collect", "--judge_instances 5", "--judge_instances 5 has no effect: it is for --judge_every_epoch 1"),
        ("subset", FROM + "--select_metric2 aum", "--select_metric2 aum has no effect: it is for --cycle_train 1"),
        ("subset", FROM + "--word_vectors f", "--word_vectors f has no effect: it is for --do_attack 1"),
        ("subset", FROM + "--adv_steps 9", "--adv_steps 9 has no effect: it is for --do_pgd_training 1"),
    ],
)
def test_an_option_without_effect_is_told(name, line, warning, capsys):
    assert told(capsys, name, line) == [warning]


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
