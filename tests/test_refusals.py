"""What each script refuses before its work: one line that names the argument or the value, status 2, no file."""

from functools import partial

import fuzzing
import pytest

OUT = "--output_dir out"
LOGITS = "--logits logits.npy --labels labels.npy"
# By the command what is added to it, each behind a semicolon; what is named, where that is not the first word, stands
# before a colon.
REFUSED = {
    f"data_statistics.py {OUT}": """
        digit: --dataset_name digit; small_cn: --model_name small_cn; --severity 6; --epochs 0; blurr: -t blurr;
        colours: -t family:colours; char_swap: -t char_swap; --unknown 1; --dataset_len 3; --statistic_interval 0;
        --statistic_interval -1; --statistic_interval nan; --with_untrained_model yes;
        --data_dir: --dataset_name imagefolder; --data_dir: --dataset_name npz --data_dir nowhere; --collect_on val;
        --collect_on nowhere.npy; --collect_on logits.npy; --collect_on: --dataset_len 40 --collect_on labels.npy;
        --severity: --severity 1 3 --severity_schedule linear; --task_name a/b; --output_dir: --output_dir=;
        --accumulate 2; --lora_rank 2; --output_dir: --output_dir= --seeds 1 2; --output_dir few.npz
    """,
    f"data_statistics.py --dataset_name glue --data_dir texts --model_name bert {OUT} --task_name": """
        sst: sst; --download: mnli; --max_seq_length: sst2 --max_seq_length 600; blur: sst2 -t blur;
        --max_seq_length: sst2 --max_seq_length 2; --model_name: sst2 --model_name small_cnn;
        --model_name: sst2 --model_name runs/a/b; --model_name: sst2 --model_name bert-base-uncased;
        --task_name: sst2 --dataset_name digits
    """,
    "data_statistics.py --dataset_name glue --data_dir texts --model_name bert": "--task_name: --seed 1",
    f"evaluate_robustness.py --dataset_name npz --data_dir few.npz --model_name four {OUT}": """
        --linf_eps -0.1; --linf_eps 8; --l2_eps 0; --l2_eps 1/0; --severities 1 6; --restarts 0; --pgd_lr 0.1 0.2;
        fogg: -t fogg; -t pgd; --attack_method none pgd; --reference nowhere.json; --corruptions_dir nowhere;
        --max_instances 3; --dataset_len 40; deepwordbug: --attacks deepwordbug; --model_name small_cnn;
        small_cn: --model_name small_cn; --model_name ours; digit: --dataset_name digit; --attack_loss cw;
        --attack_loss: --attacks fgsm --attack_loss margin; --source_model ./nowhere; --temperature 0;
        --temperature: --attacks none --temperature 2; --task_name sst2;
        --source_model: --attacks none --source_model x; --queries: --attacks spsa --queries 39;
        autoattack: --attacks autoattack
    """,
    f"evaluate_robustness.py --dataset_name glue --task_name sst2 --data_dir texts --model_name bert {OUT}": """
        autoattack: --attacks autoattack; --source_model: --attacks deepwordbug --source_model bert bert;
        --masked_lm: --attacks bae; --masked_lm: --attacks bae --masked_lm /none; --corruptions_dir /;
        --sentence_encoder: --attacks textbugger --sentence_encoder vit; --masked_lm: --attacks bertattack;
        --word_vectors: --attacks textfooler; --word_vectors: --attacks textfooler --word_vectors /none;
        --attack_column: --attacks deepwordbug --attack_column 2; --pgd_step: --l2_eps 1 --pgd_step 4 8; fog: -t fog;
        --max_seq_length 200
    """,
    f"new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source statistics.npy {OUT}": """
        --select_metric perturbed_los_mean_r; --select_ratio 1.2; --select_ratio 0.01; --save_steps 1.5; --b -0.1;
        nowhere.npy: --statistics_source nowhere.npy; npz: --dataset_name digits; --model_name ours;
        statistics.npy: --dataset_len 48; --val_len 9
    """,
    f"new_fine_tune_flooding/new_fine_tune_soft_label.py --statistics_source statistics.npy {OUT}": """
        --soft_label 0; --soft_label 1.1
    """,
    f"finetune_with_select_data.py --statistics_source statistics.npy {OUT}": """
        --group robust --select_metric aum; share: --group robust --set_percentage 0.01; share: --set_percentage 0.01;
        --select_metric2: --cycle_train 1; --adv_steps: --do_pgd_training 1 --adv_steps 0; --augment_chosen pgd;
        nothing: --augment_chosen nothing; share: --select_metric robust --select_ratio 0.01;
        --select_from_two_end: --group robust --select_from_two_end 1
    """,
    f"scripts/import_statistics.py {LOGITS} --output new.npy": """
        --steps 1 2; --steps 1 2 2; --label_names a b; --perturbed_logits: --perturbation blur; --data_dir x;
        digits: --dataset_name digits; --output logits.npy; --dynamics dynamics
    """,
    "scripts/import_statistics.py --output new.npy": """
        --labels: --logits logits.npy; --dynamics nowhere; nowhere.npy: --logits nowhere.npy --labels y
    """,
    "scripts/compare_statistics.py statistics.npy": """
        at least 2: --output x; statistics.npy; --metric: other.npy --metric loss; --output: x.npy --output=.
    """,
    "plot_utils/report.py --statistics statistics.npy": "nowhere.npy; statistics.npy",
    "plot_utils/sample_images.py --statistics statistics.npy": """
        --classes seven; mnist1d: --dataset_name mnist1d; --per_group 0; --output: --output=.; --val_len 3;
        statistics.npy: --dataset_len 10; nowhere.npy: --statistics nowhere.npy
    """,
    "plot_utils/training_curves.py": "nowhere: --log nowhere; --exp: --log log.jsonl --exp b",
    "plot_utils/training_curves.py --log log.jsonl": "--output: --output=.",
    "plot_utils/plotting.py --statistics statistics.npy": """
        nowhere.npy; no/folder: --output no/folder; --output: --output=; --output: --output=.; --output_dir=;
        --output: --output=/
    """,
    "scripts/export_statistics.py --statistics statistics.npy": """
        nowhere.npy; --output: --output=.; --per_checkpoint: --per_checkpoint 1 --format csv
    """,
    "scripts/select_instances.py --statistics statistics.npy": """
        --output: --output=.; --select_ratio 0; --tilt sensitivity; --tilt nothing=1;
        --tilt: --tilt sensitivity=1 --select_metric flip_rate; --select_metric nowhere.npy;
        --select_metric: --select_metric statistics.npy
    """,
    "scripts/compare_models.py": """
        --results_dir=; --results_dir nowhere; --baseline: --results_dir judged --baseline x
    """,
}


@pytest.mark.parametrize(
    "command, more", [(command, more.strip()) for command, more_of in REFUSED.items() for more in more_of.split(";")]
)
def test_what_is_wrong_is_named_and_nothing_is_written(command, more, ground, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    named, _, added = more.partition(": ") if ": " in more else (more.split()[0].rstrip("="), "", more)
    name, *arguments = f"{command} {added}".split()
    assert fuzzing.trial(ground, partial(fuzzing.run, name, *arguments, named=named)) == (True, None)
