"""The arguments of data, model, training, collection and run; each is declared once, for all scripts."""

from __future__ import annotations

import argparse

from robust_data.command_line.option_types import (
    SWITCH,
    folder_name,
    natural_float,
    natural_int,
    positive_float,
    positive_int,
)
from robust_data.packages import datasets, models


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_name", default="digits", metavar="NAME", help=f"one of {', '.join(datasets.names())}")
    group.add_argument("--task_name", metavar="NAME", help="the task within a dataset of several, such as glue's sst2")
    group.add_argument("--data_dir", metavar="PATH", help="folder (npz, csv, tsv: file) of the data; digits needs none")
    group.add_argument("--download", **SWITCH, default=0, help="1 fetches the data into --data_dir if it is not there")
    group.add_argument(
        "--dataset_len",
        type=positive_int,
        metavar="N",
        help="train on a class-balanced subset of N instances, drawn by --seed; by default on all",
    )
    group.add_argument(
        "--val_len",
        type=positive_int,
        metavar="N",
        help="hold a class-balanced N of the training instances out, drawn by --seed: neither trained on nor recorded, "
        "their accuracy and loss are logged; by default none",
    )
    group.add_argument(
        "--image_size",
        type=positive_int,
        metavar="PX",
        help="resize and centre-crop images to this side; by default as they are, 224 where sizes differ",
    )
    group.add_argument(
        "--max_seq_length", type=positive_int, metavar="TOKENS", help="texts are cut to this length; by default 128"
    )
    columns = {
        "text": "text; by default text",
        "text_pair": "second text, for pairs",
        "label": "label; by default label",
    }
    for name, what in columns.items():
        group.add_argument(f"--{name}_column", metavar="NAME", help=f"csv, tsv: the column with the {what}")
    group.add_argument(
        "--encoding", metavar="NAME", help="csv, tsv: how the file writes its characters, such as latin-1; else UTF-8"
    )
    group.add_argument(
        "--num_workers", type=natural_int, default=2, help="processes that decode images kept on the disk"
    )
    group.add_argument("--skip_corrupt", **SWITCH, default=0, help="1 leaves images out that cannot be read")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model_name",
        default="small_cnn",
        metavar="NAME",
        help="small_cnn, resnet9_small, resnet20, resnet32, resnet56, any classification model of torchvision "
        "(resnet18, vit_b_16, ...), a Hugging Face classifier of images or texts by hub name or folder, or a folder "
        "that a fine-tuning script saved",
    )
    group.add_argument(
        "--pretrained",
        **SWITCH,
        help="1 loads published weights; by default torchvision's models start from random weights, "
        "Hugging Face's from theirs",
    )
    group.add_argument(
        "--keep_stem",
        **SWITCH,
        default=0,
        help="1 leaves the 7x7 stride-2 stem of a CNN as it is for images up to 64 px",
    )
    group.add_argument(
        "--memory_format",
        choices=models.MEMORY_FORMATS,
        default="contiguous",
        help="how an image classifier lays out weights and images; convolutions can be faster with channels_last",
    )
    group.add_argument("--reinit_classifier", **SWITCH, default=0, help="1 gives a text classifier a new head")
    group.add_argument("--freeze_encoder", **SWITCH, default=0, help="1 trains the head of a text classifier alone")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive_int, default=10, help="passes over the training instances")
    group.add_argument(
        "--stop_at_train_loss",
        type=positive_float,
        metavar="X",
        help="end the training after the epoch over which the mean cross-entropy was at most X; by default never",
    )
    group.add_argument("--bsz", type=positive_int, default=32, help="instances per step, over all processes")
    group.add_argument(
        "--optimizer", choices=("adamw", "sgd"), default="adamw", help="sgd has Nesterov's momentum of 0.9"
    )
    group.add_argument(
        "--lr",
        type=positive_float,
        help="the highest learning rate; by default 1e-3, with sgd 0.1; from pretrained weights 2e-5, with sgd 1e-3",
    )
    group.add_argument(
        "--lr_schedule",
        choices=("linear", "cosine", "onecycle"),
        default="linear",
        help="how lr falls to 0 after the warm-up; onecycle also rises along a cosine",
    )
    group.add_argument(
        "--weight_decay",
        type=natural_float,
        help="on all weights but biases and norms; by default 0.01, with sgd 5e-4 (a term of its gradient)",
    )
    group.add_argument("--adam_epsilon", type=positive_float, default=1e-8, help="AdamW's")
    group.add_argument("--warmup_ratio", type=natural_float, default=0.1, help="share of the steps over which lr rises")
    group.add_argument(
        "--max_grad_norm", type=positive_float, default=1.0, help="longer gradients are shortened to this"
    )
    group.add_argument(
        "--augment",
        choices=("none", "flip", "crop", "flip_crop"),
        default="none",
        help="of training images alone, anew at every epoch: flip half of them from left to right, cut them out of "
        "their padding of 4 px (at 32 px), or both",
    )
    group.add_argument("--do_train_shuffle", **SWITCH, default=1, help="0 trains in the order of the dataset")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--seed", type=natural_int, default=42, help="of weights, order, subsets and perturbations")
    group.add_argument(
        "--eval_size", type=positive_int, default=256, help="instances per batch where nothing is trained"
    )
    group.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16 runs the model in bfloat16, with coarser logits; losses stay in fp32",
    )
    group.add_argument(
        "--tf32",
        **SWITCH,
        default=0,
        help="1 lets a GPU multiply numbers of fp32 in TF32, with ten bits behind the point; of no effect on a CPU",
    )
    group.add_argument(
        "--device",
        choices=("cuda", "cpu", "mps"),
        help="where the model runs; by default on the first GPU that CUDA offers, or else on the CPU; mps is a GPU of "
        "Apple",
    )
    group.add_argument(
        "--rendezvous_timeout",
        type=positive_float,
        default=600.0,
        metavar="SECONDS",
        help="how long several processes wait for one another at the start",
    )
    group.add_argument(
        "--output_dir", type=folder_name, default="results", metavar="FOLDER", help="where results go; made if missing"
    )


def add_repetition_arguments(parser: argparse.ArgumentParser) -> None:
    """Several runs by one command, and a run once more; neither is an argument of a run itself."""
    group = parser.add_argument_group("several runs")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="take the arguments of an earlier run, from the JSON beside a statistics file or the args.json of a "
        "fine-tuned model, all but --overwrite; those given here win",
    )
    group.add_argument(
        "--seeds",
        nargs="+",
        type=natural_int,
        metavar="SEED",
        help="instead of --seed: one run for each, in <output_dir>/seed<SEED>, or where --output_dir has {seed} in "
        "its place, and a table of means and standard deviations at the end",
    )


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("log")
    group.add_argument(
        "--tensorboard",
        **SWITCH,
        default=0,
        help="1 also writes the figures of log.jsonl for TensorBoard, to tensorboard in --output_dir; it needs the "
        "package tensorboard",
    )


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resume")
    group.add_argument(
        "--save_every",
        type=positive_int,
        metavar="STEPS",
        help="save the state of the run every so many steps too, beside every checkpoint and every five minutes; a "
        "killed run goes on from there",
    )
    group.add_argument(
        "--overwrite",
        **SWITCH,
        default=0,
        help="1 starts anew where the same results are there already, or a run with other arguments was begun; "
        "what this very command began it goes on with",
    )


def add_collection_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("collection")
    group.add_argument(
        "--statistic_interval",
        type=positive_float,
        default=1.0,
        metavar="EPOCHS",
        help="epochs between two checkpoints, a fraction is fine; the end of training is always one",
    )
    group.add_argument("--with_untrained_model", **SWITCH, default=1, help="1 also records before the first step")
    add_untrained_argument(group)
    group.add_argument(
        "--use_cur_preds",
        **SWITCH,
        default=0,
        help="1 takes the losses against the model's own clean prediction instead of the golden label",
    )
    group.add_argument(
        "--severity_schedule",
        choices=("constant", "linear"),
        default="constant",
        help="linear raises the severity from 1 to 5 over training, as the older image code did",
    )
    group.add_argument(
        "--collect_on",
        metavar="FILE",
        help="also record instances that are not trained on, in files of their own: test or val, that split; an .npy "
        "of indices, as select_instances.py writes it, those of the training split, which are then held out of it",
    )
    group.add_argument(
        "--record_input_gradient",
        **SWITCH,
        default=0,
        help="1 also records the norm of the gradient of each clean loss with respect to pixels or word embeddings",
    )
    group.add_argument(
        "--resample_perturbation",
        **SWITCH,
        default=0,
        help="1 draws a random perturbation anew at every checkpoint, so that variability also measures the dice",
    )


def add_untrained_argument(group: argparse._ArgumentGroup) -> None:
    """Whether the metrics count the checkpoint before the first step; of a collection and of metrics."""
    group.add_argument(
        "--use_untrained_model",
        **SWITCH,
        default=0,
        help="1 counts the checkpoint before the first step in the metrics, too; its losses are of the initial "
        "weights, not of the instances",
    )
