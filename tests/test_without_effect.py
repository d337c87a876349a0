"""Options that nothing uses are told in one line each, with the reason; those that are used are not."""

import argparse
import importlib

import pytest

import registry
from robust_data.analysis.statistics_file import open_statistics
from robust_data.command_line import without_effect

SCRIPTS = {
    "collect": "data_statistics",
    "judge": "evaluate_robustness",
    "subset": "finetune_with_select_data",
    "flood": "new_fine_tune_flooding.new_fine_tune_flooding",
    "select": "scripts.select_instances",
    "gallery": "plot_utils.perturbation_gallery",
    "sample": "plot_utils.sample_images",
    "report": "plot_utils.report",
    "import": "scripts.import_statistics",
}
FROM = "--statistics_source x.npy "


def parser_of(name):
    return importlib.import_module(SCRIPTS[name]).build_parser()


def told(capsys, name, line):
    registry.warn_once.cache_clear()
    parser_of(name).parse_args(line.split())
    return [warning.removeprefix("warning: ") for warning in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    "name, line, warning",
    [
        ("collect", "--data_dir x", "--data_dir x has no effect: the digits come with scikit-learn"),
        (
            "collect",
            "--dataset_name npz --download",
            "--download 1 has no effect: --dataset_name npz reads your own files",
        ),
        ("collect", "--max_seq_length 9", "--max_seq_length 9 has no effect: --dataset_name digits holds images"),
        (
            "collect",
            "--dataset_name glue --image_size 9",
            "--image_size 9 has no effect: --dataset_name glue holds texts",
        ),
        (
            "collect",
            "--encoding utf-8",
            "--encoding utf-8 has no effect: it is for csv and tsv, and --dataset_name is digits",
        ),
        ("collect", "-t blur --adv_steps 9", "--adv_steps 9 has no effect: pgd is not among the perturbations"),
        ("collect", "--pgd_lr 9", "--pgd_lr 9.0 has no effect: it is for --judge_every_epoch N"),
        ("collect", "-t identity --severity 5 1", "--severity 5 1 has no effect: identity has no severity"),
        ("collect", "-t pgd --severity 5", "--severity 5 has no effect: pgd has no severity"),
        (
            "collect",
            "--severity_schedule linear --severity 5",
            "--severity 5 has no effect: --severity_schedule linear goes through all of them",
        ),
        (
            "collect",
            "-t pgd --attack_special_tokens 1",
            "--attack_special_tokens 1 has no effect: --dataset_name digits holds images",
        ),
        (
            "collect",
            "--dataset_name glue -t char_swap --attack_special_tokens 1",
            "--attack_special_tokens 1 has no effect: pgd is not among the perturbations",
        ),
        (
            "collect",
            "--with_untrained_model 0 --use_untrained_model 1",
            "--use_untrained_model 1 has no effect: --with_untrained_model 0 records none",
        ),
        ("collect", "--optimizer sgd --adam_epsilon 1", "--adam_epsilon 1.0 has no effect: --optimizer sgd has none"),
        ("judge", "--word_vectors x", "--word_vectors x has no effect: --dataset_name digits holds images"),
        ("judge", "--dataset_name glue --masked_lm x", "--masked_lm x has no effect: it is for bae"),
        ("judge", "--attacks fgsm --restarts 2", "--restarts 2 has no effect: it is for the attack pgd"),
        ("judge", "--severities 2", "--severities 2 has no effect: it is for -t and --corruptions_dir"),
        ("flood", FROM + "--word_vectors x", "--word_vectors x has no effect: it is for --do_attack 1"),
        ("flood", FROM + "--attack_method bae", "--attack_method bae has no effect: it is for --do_attack 1"),
        (
            "flood",
            FROM + "--pgd_step 0 --adv_max_norm 1",
            "--adv_max_norm 1.0 has no effect: --pgd_step 0 leaves pgd out",
        ),
        ("subset", FROM + "--adv_lr 1", "--adv_lr 1.0 has no effect: it is for --do_pgd_training 1"),
        (
            "subset",
            FROM + "--set_percentage 0.5",
            "--set_percentage 0.5 has no effect: without --group the choice is of --select_ratio; only the groups in "
            "the log have this size",
        ),
    ],
)
def test_an_option_that_nothing_uses_is_told(capsys, name, line, warning):
    assert told(capsys, name, line) == [warning]


@pytest.mark.parametrize(
    "name, line",
    [
        ("collect", ""),
        ("collect", "--dataset_name npz --data_dir x --image_size 8 --num_workers 0 --skip_corrupt"),
        (
            "collect",
            "--dataset_name csv --data_dir x --text_column a --encoding utf-8 --max_seq_length 9 --adv_steps 2",
        ),
        ("collect", "-t blur pgd --adv_steps 9 --adv_max_norm 1 --severity 1"),
        ("collect", "--judge_every_epoch 1 --pgd_step 2 --adv_max_norm 1"),
        ("collect", "-t nothing --adv_steps 2 --severity 1"),
        ("collect", "--dataset_name glue -t pgd --attack_special_tokens 1 --use_untrained_model 1"),
        ("select", FROM + "--use_untrained_model 1"),
        ("collect", "--dataset_name nothing --data_dir x --image_size 8"),
        ("judge", "--dataset_name glue --attacks all --word_vectors x --masked_lm y --num_examples -1"),
        ("judge", "--pgd_step 2 --restarts 2 --l2_eps 1 --linf_eps 1 -t fog --severities 1"),
        ("flood", FROM + "--do_attack --attack_method textfooler --word_vectors x --num_examples 9"),
        ("flood", FROM + "--pgd_step 0 --data_dir x --max_seq_length 9"),
        (
            "subset",
            FROM + "--group robust --set_percentage 0.5 --do_pgd_training --pgd_step 0 --adv_lr 1 --adv_max_norm 1",
        ),
    ],
)
def test_an_option_that_is_used_is_not(capsys, name, line):
    assert told(capsys, name, line) == []


def test_what_a_file_records_is_told_once_more_by_nobody(capsys, tmp_path):
    (tmp_path / "own.json").write_text('{"adv_steps": 9, "perturbations": ["blur"]}')
    line = f"--config {tmp_path / 'own.json'}"
    assert told(capsys, "collect", line) == []
    assert len(told(capsys, "collect", f"{line} --adv_steps 8")) == 1


def test_an_option_of_data_is_told_where_the_statistics_name_them(capsys, statistics):
    registry.warn_once.cache_clear()
    args = parser_of("select").parse_args(["--statistics", str(statistics), "--max_seq_length", "9"])
    assert capsys.readouterr().err == ""
    open_statistics(statistics).data_arguments(args)
    assert capsys.readouterr().err == "warning: --max_seq_length 9 has no effect: --dataset_name npz holds images\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_option_can_be_asked_after_in_every_script(name):
    own = [action for action in parser_of(name)._actions if action.default is not argparse.SUPPRESS]
    args = argparse.Namespace(**{action.dest: action.default for action in own})
    without_effect.tell(args, vars(args))


def test_a_switch_that_is_off_asks_for_nothing(capsys, statistics):
    registry.warn_once.cache_clear()
    args = parser_of("select").parse_args(["--statistics", str(statistics), "--download", "0"])
    open_statistics(statistics).data_arguments(args)
    assert capsys.readouterr().err == ""
