"""The settings of a job are completed once, and then nothing changes them."""

import argparse

import pytest
from conftest import refuses

from robust_data import complete, data_statistics, evaluate_robustness, finetune_with_select_data, settings
from robust_data.analysis.statistics_file import open_statistics
from robust_data.judge import conditions
from robust_data.plot_utils import plotting

REQUIRED = {finetune_with_select_data: ("--statistics_source", "statistics.npy")}


def collection(*given):
    args = data_statistics.build_parser().parse_args(list(map(str, given)))
    return complete.collection(settings.of(settings.Collect, args))


def selection(*given):
    parser = finetune_with_select_data.build_parser()
    args = parser.parse_args(["--statistics_source", "statistics.npy", *map(str, given)])
    return complete.selection(settings.of(settings.TrainSubset, args))


def test_settings_cannot_change():
    with pytest.raises(AttributeError):
        settings.Training().lr = 0.2


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"lr": float("nan")}, {"optimizer": "adam"}, {"bsz": "many"}])
def test_settings_refuse_what_their_options_refuse(wrong):
    with refuses(next(iter(wrong))):
        settings.Training(**wrong)


def test_every_option_of_a_parser_is_a_setting_with_its_default():
    for script, kind in ((data_statistics, settings.Collect), (finetune_with_select_data, settings.TrainSubset)):
        known, own = kind(), script.build_parser()
        hidden = {action.dest for action in own._actions if action.help == argparse.SUPPRESS}
        options = {action.dest: action.default for action in own._actions} | dict.fromkeys(hidden)
        of_run = {name for name in options if name not in {"help", "list", "config", "seeds", *hidden}}
        assert of_run <= {*settings.names(kind)}
        assert all(options[name] in (None, getattr(known, name)) for name in of_run)


def test_a_collection_is_complete_before_a_model_is_built(tmp_path):
    args = collection("-t", "gaussian_noise_2", "blur", "blur")
    assert args.perturbations == ["gaussian_noise", "blur"] and args.lr == 1e-3
    assert collection().perturbations == ["random_shadow"]
    assert collection("--lr", 0.5, "--model_name", tmp_path).lr == 0.5


def test_a_judgement_has_every_name_severity_and_size_once_and_in_order():
    given = ["-t", "gaussian_noise_2", "fog", "fog", "--severities", "5", "1", "1", "--l2_eps", "1", "0.5", "0.5"]
    asked = settings.of(settings.Judgement, evaluate_robustness.build_parser().parse_args(given))
    asked = complete.as_trained(asked)
    args = complete.judging(asked)
    assert (args.perturbations, args.severities) == (["gaussian_noise", "fog"], [1, 5])
    assert (args.l2_eps, args.linf_eps, args.attack_method) == (
        [0.5, 1.0],
        [2 / 255, 4 / 255, 8 / 255],
        ["fgsm", "pgd"],
    )
    assert asked.severities == [5, 1, 1] and asked.linf_eps is None
    assert conditions.plan(asked) == conditions.plan(args)


@pytest.mark.parametrize("script", [data_statistics, evaluate_robustness, finetune_with_select_data, plotting])
def test_the_values_of_an_option_that_takes_several_add_up(script):
    parser = script.build_parser()
    several = [action for action in parser._actions if action.nargs in ("+", "*") and action.help != argparse.SUPPRESS]
    assert several
    for action in several:
        one, two = action.choices[:2] if action.choices else ("1", "2")
        parsed = parser.parse_args(
            [*REQUIRED.get(script, ()), action.option_strings[0], one, action.option_strings[-1], two]
        )
        assert list(map(str, getattr(parsed, action.dest))) == list(map(str, map(action.type or str, (one, two))))


def test_an_option_that_takes_one_value_keeps_the_last():
    assert data_statistics.build_parser().parse_args(["--epochs", "1", "--epochs", "2"]).epochs == 2


@pytest.mark.parametrize(
    "given, lr",
    [
        (["--model_name", "resnet18"], 1e-3),
        (["--model_name", "resnet18", "--pretrained"], 2e-5),
        (["--model_name", "microsoft/resnet-18"], 2e-5),
        (["--model_name", "microsoft/resnet-18", "--pretrained", "0"], 1e-3),
        (["--model_name", "bert-base-uncased", "--dataset_name", "tsv"], 2e-5),
        (["--model_name", "bert-base-uncased", "--dataset_name", "tsv", "--pretrained", "0"], 1e-3),
    ],
)
def test_the_learning_rate_is_lower_from_pretrained_weights(given, lr):
    assert collection(*given).lr == lr


def test_learning_rate_and_weight_decay_are_by_default_those_of_the_optimizer():
    assert (collection().lr, collection().weight_decay) == (1e-3, 0.01)
    args = collection("--optimizer", "sgd")
    assert (args.lr, args.weight_decay) == (0.1, 5e-4)
    assert collection("--optimizer", "sgd", "--model_name", "resnet18", "--pretrained").lr == 1e-3
    args = collection("--optimizer", "sgd", "--lr", 0.5, "--weight_decay", 0)
    assert (args.lr, args.weight_decay) == (0.5, 0)


def test_texts_are_not_augmented():
    texts = ("--model_name", "bert-base-uncased", "--dataset_name", "tsv", "--augment", "flip")
    with refuses("--augment"):
        collection(*texts)


def test_a_folder_holds_trained_weights_unless_its_name_is_that_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, lr in (("trained", 2e-5), ("small_cnn", 1e-3)):
        (tmp_path / name).mkdir()
        assert collection("--model_name", name).lr == lr


def test_the_defaults_of_a_selection_depend_on_what_is_asked_for():
    args = selection()
    assert (args.select_metric, args.select_ratio, args.ratio_proportion) == ("perturbed_loss_mean_r", 0.3, 0.5)
    assert (args.set_percentage, args.select_ratio2) == (0.3, None)
    args = selection("--group", "swing")
    assert (args.select_metric, args.select_ratio, args.set_percentage) == (None, None, 0.3)
    by_older_names = selection("--group", "robust", "--set_percentage", 0.5)
    assert selection("--select_metric", "robust", "--select_ratio", 0.5) == by_older_names
    assert selection("--cycle_train", 1, "--select_metric2", "aum", "--select_ratio", 0.2).select_ratio2 == 0.2
    args = selection("--cycle_train", 1, "--select_metric2", "aum", "--group", "robust", "--set_percentage", 0.1)
    assert args.select_ratio2 == 0.1


def test_fine_tuning_takes_data_and_model_of_the_statistics_and_keeps_its_seed(statistics):
    opened = open_statistics(statistics)
    opened.metadata["arguments"] |= {"model_name": "resnet20", "seed": 7}
    args = complete.fine_tuning(selection("--output_dir", "out", "--seed", 3), opened)
    assert (args.dataset_name, args.dataset_len, args.model_name, args.seed) == ("npz", 40, "resnet20", 3)
    assert (args.results_file, args.lr) == ("out/results.csv", 1e-3)
