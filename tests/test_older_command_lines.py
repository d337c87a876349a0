"""The command lines of the two older repositories: they run, and mean what they meant."""

import argparse
import importlib
import shlex

import pytest

from robust_data import complete, registry, settings
from robust_data.command_line import older
from robust_data.judge import conditions

SCRIPTS = {
    "statistics": "robust_data.data_statistics",
    "subset": "robust_data.finetune_with_select_data",
    "flooding": "robust_data.new_fine_tune_flooding.new_fine_tune_flooding",
    "soft_label": "robust_data.new_fine_tune_flooding.new_fine_tune_soft_label",
    "judge": "robust_data.evaluate_robustness",
    "plotting": "robust_data.plot_utils.plotting",
}
# All of the older scripts for texts took the same options.
COMMON = (
    "--model_name bert-base-uncased --dataset_name glue --task_name sst2 --num_labels 2 --bsz 32 --eval_size 32 "
    "--epochs 10 --lr 2e-5 --weight_decay 1e-2 --adam_epsilon 1e-8 --warmup_ratio 0.1 --seed 42 --max_seq_length 128 "
    "--dataset_len 1000 --do_train_shuffle --max_grad_norm 1 --adv_steps 5 --adv_lr 0.03 --adv_init_mag 0.05 "
    "--adv_max_norm 0 --adv_norm_type l2 --do_attack --attack_all --attack_method textfooler --num_examples 872 "
    "--results_file attacked.csv --save_steps -1 --show_data -1 --attack_every_epoch 0 --attack_every_step -1 "
    "--freeze_bert --pgd_step 5 --pgd_lr 0.03 --output_dir out"
)
CHOICE = (
    "--statistics_source older.npy --select_metric perturbed_loss_mean_r --select_ratio 0.3 --select_from_two_end "
    "--ratio_proportion 0.7 --do_balance_labels --only_original_pred"
)


def parser_of(name: str) -> argparse.ArgumentParser:
    return importlib.import_module(SCRIPTS[name]).build_parser()


@pytest.fixture
def parsed(capsys):
    """A function that parses a command line; gives the arguments and the lines on stderr."""

    def parse(name: str, line: str):
        registry.warn_once.cache_clear()
        args = parser_of(name).parse_args(shlex.split(line))
        return args, capsys.readouterr().err.splitlines()

    return parse


def refusal(name, line, capsys):
    """The one line with which a command line is refused."""
    with pytest.raises(SystemExit) as exit:
        parser_of(name).parse_args(shlex.split(line))
    (told,) = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    return told


def test_data_statistics(parsed):
    line = f"{COMMON} --statistic_interval 0.35 --with_untrained_model --use_cur_preds"
    args, told = parsed("statistics", line)
    assert (args.with_untrained_model, args.use_cur_preds, args.do_train_shuffle, args.freeze_encoder) == (1, 1, 1, 1)
    assert (args.statistic_interval, args.lr, args.dataset_len, args.adv_steps) == (0.35, 2e-5, 1000, 5)
    assert told == [
        "warning: --num_labels has no effect: the classes are counted in the data",
        "warning: --do_attack, --attack_all, --attack_method, --num_examples, --results_file: "
        "without effect here, of use to other scripts",
    ]
    # What the run writes down are its own arguments.
    assert not {"older", "num_labels", "do_attack", "attack_all", "freeze_bert"} & vars(args).keys()


@pytest.mark.parametrize("name, own", [("flooding", "--b 0.2 --beta 1"), ("soft_label", "--soft_label 0.8 --beta 1")])
def test_fine_tuning(parsed, name, own):
    args, told = parsed(name, f"{COMMON} {CHOICE} {own}")
    assert (args.do_attack, args.attack_method, args.num_examples) == (1, ["all"], 872)
    assert (args.save_steps, args.judge_every_epoch, args.freeze_encoder) == (0, 0, 1)
    assert (args.select_from_two_end, args.do_balance_labels, args.only_original_pred) == (1, 1, 1)
    assert told == [
        "warning: --attack_all attacks by every method, as --attack_method all; for all texts give --num_examples -1",
        "warning: --num_labels has no effect: the classes are counted in the data",
    ]
    assert "attack_all" not in vars(args)


def test_training_on_a_selection(parsed):
    more = "--select_metric2 random --select_ratio2 0.5 --cycle_train 3 --do_freelb_training --save_steps 0.25"
    args, told = parsed("subset", f"{COMMON} {CHOICE} {more} --attack_every_step 100")
    assert (args.cycle_train, args.do_pgd_training, args.adv_steps, args.save_steps) == (3, 1, 5, 0.25)
    assert told[1:] == [
        "warning: --num_labels has no effect: the classes are counted in the data",
        "warning: --attack_every_step has no effect: --judge_every_epoch N judges the model every N epochs",
    ]


def test_images(parsed):
    line = "--model_name resnet18 --dataset_name cifar10 -t gaussian_noise --set_percentage 0.3 --group robust"
    args, told = parsed("subset", f"{line.replace('-t gaussian_noise ', '')} --statistics_source s.npy")
    assert (args.group, args.set_percentage, told) == ("robust", 0.3, [])
    args, told = parsed("statistics", "--model_name resnet18 --dataset_name cifar10 -t gaussian_noise_2 --epochs 10")
    assert complete.perturbation_names(args.dataset_name, args.perturbations) == ["gaussian_noise"] and told == []
    assert parsed("plotting", "")[1] == []


def test_tf32_was_a_switch(parsed):
    precisions = [parsed("statistics", line)[0].precision for line in ("--tf32 1", "--precision bf16 --tf32 0")]
    assert precisions == ["tf32", "bf16"]


def planned(args):
    """The names of the conditions that a judgement is asked for."""
    return [condition.name for condition in conditions.plan(complete.as_trained(settings.of(settings.Judgement, args)))]


def test_all_attacks_are_those_that_can_be_made(parsed, capsys):
    args, _ = parsed(
        "judge", "--dataset_name glue --task_name sst2 --attack_all --word_vectors vectors.txt --masked_lm bert"
    )
    every = planned(args)[1:]
    assert every == ["pgd", *conditions.WORD_ATTACKS]
    args, _ = parsed("judge", "--dataset_name glue --task_name sst2 --attack_method all")
    assert not {"textfooler", "bertattack", "bae"} & {*planned(args)}
    told = capsys.readouterr().err
    assert "attack textfooler is left out" in told and "attack bae is left out" in told
    args, _ = parsed("judge", "--attack_method all")
    assert {*planned(args)} == {"clean", "fgsm", "pgd"}


def test_what_would_train_otherwise_is_refused_with_what_takes_its_place(parsed, capsys):
    told = refusal("statistics", "--do_freelb_training", capsys)
    assert "finetune_with_select_data.py trains so, with --do_pgd_training 1" in told
    assert parsed("statistics", "--do_freelb_training 0")[1] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_silent_on_what_only_older_command_lines_say(name):
    shown = parser_of(name).format_help()
    for option in (*settings.options_with("older").values(), *older.REPLACED, "attack_all"):
        assert f"--{option}" not in shown
