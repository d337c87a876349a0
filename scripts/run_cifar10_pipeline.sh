#!/usr/bin/env bash
# The whole method on CIFAR-10: statistics, map, fine-tuning with flooding, with soft labels and on groups of instances,
# judged beside one another, and a page to explore. Ends with a table. A run that was stopped goes on where it was.
# Images of your own, as <folder>/{train,test}/<class>/*: DATASET=imagefolder DATA_DIR=<folder>.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

DATASET=${DATASET:-cifar10}
DATA_DIR=${DATA_DIR:-data}
MODEL=${MODEL:-resnet20}
INSTANCES=${INSTANCES:-10000}            # training instances, the same number of each class
PERTURBATION=${PERTURBATION:-blur}
SEVERITY=${SEVERITY:-3}
STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-10}
STATISTICS_SEED=${STATISTICS_SEED:-42}
EPOCHS=${EPOCHS:-10}                     # of each fine-tuning
SEEDS=${SEEDS:-42}                       # of the fine-tuning; several: SEEDS="1 2 3"
BSZ=${BSZ:-128}
LR=${LR:-1e-3}
SELECT_METRIC=${SELECT_METRIC:-perturbed_loss_mean_r}
SELECT_RATIO=${SELECT_RATIO:-0.3}
GROUP_SHARE=${GROUP_SHARE:-0.5}          # size of the groups that are trained on alone
WITHIN_CLASS=${WITHIN_CLASS:-0}
USE_UNTRAINED_MODEL=${USE_UNTRAINED_MODEL:-0}    # 1 counts the checkpoint before the first step in the metrics
B=${B:-0.2}
SOFT_LABEL=${SOFT_LABEL:-0.8}
PGD_EPS=${PGD_EPS:-0.00392157}           # linf, 1/255
PGD_STEP=${PGD_STEP:-10}
JUDGED=${JUDGED:-$PERTURBATION gaussian_noise jpeg_compression contrast}
JUDGED_SEVERITIES=${JUDGED_SEVERITIES:-1 3 5}
JUDGED_INSTANCES=${JUDGED_INSTANCES:-}   # test images to judge on; empty: all
OUTPUT=${OUTPUT:-results/${DATASET}_pipeline}

step() { printf '\n== %s\n' "$*"; }

# fine_tune METHOD SCRIPT ARGUMENTS... trains into $OUTPUT/METHOD_seed$seed and judges the model there, once.
fine_tune() {
    local method=$1 script=$2 folder=$OUTPUT/$1_seed$seed
    shift 2
    step "$method, seed $seed"
    "$PYTHON" "$script" --statistics_source "$STATISTICS" --data_dir "$DATA_DIR" --model_name "$MODEL" \
        --epochs "$EPOCHS" --bsz "$BSZ" --lr "$LR" --seed "$seed" --within_class "$WITHIN_CLASS" \
        --use_untrained_model "$USE_UNTRAINED_MODEL" \
        --pgd_step "$PGD_STEP" --pgd_lr "$PGD_EPS" --adv_init_mag "$PGD_EPS" --adv_max_norm "$PGD_EPS" \
        --adv_norm_type linf --results_file "$OUTPUT/results.csv" --output_dir "$folder" "$@"
    # Of a judgement the figure is written last.
    if ls "$folder"/robustness_*.pdf > /dev/null 2>&1; then
        echo "judged already; to judge again, remove $folder/robustness_*"
        return
    fi
    # shellcheck disable=SC2086  # several names, one word each
    "$PYTHON" evaluate_robustness.py --model_name "$folder/model" --dataset_name "$DATASET" --data_dir "$DATA_DIR" \
        -t $JUDGED --severities $JUDGED_SEVERITIES ${JUDGED_INSTANCES:+--max_instances "$JUDGED_INSTANCES"} \
        --attack_method pgd --linf_eps "$PGD_EPS" --l2_eps --pgd_step "$PGD_STEP" --seed "$STATISTICS_SEED" \
        --output_dir "$folder"
}

step "statistics"
"$PYTHON" data_statistics.py --dataset_name "$DATASET" --data_dir "$DATA_DIR" --download 1 --dataset_len "$INSTANCES" \
    --model_name "$MODEL" -t "$PERTURBATION" --severity "$SEVERITY" --epochs "$STATISTICS_EPOCHS" --bsz "$BSZ" \
    --lr "$LR" --seed "$STATISTICS_SEED" --output_dir "$OUTPUT"
STATISTICS=$(ls "$OUTPUT"/robust_statistics_*_t"${PERTURBATION}"_severity"$SEVERITY".npy)
[ -f "$STATISTICS" ] || { echo "error: $OUTPUT holds several statistics files; name another OUTPUT" >&2; exit 2; }

step "map"
"$PYTHON" plot_utils/plotting.py --statistics "$STATISTICS" --within_class "$WITHIN_CLASS" \
    --use_untrained_model "$USE_UNTRAINED_MODEL"

for seed in $SEEDS; do
    # With b = 0 and beta = 1 flooding is cross-entropy, so this is training on everything as usual.
    fine_tune everything new_fine_tune_flooding/new_fine_tune_flooding.py --b 0 --beta 1
    fine_tune flooding new_fine_tune_flooding/new_fine_tune_flooding.py --b "$B" \
        --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO"
    fine_tune soft_label new_fine_tune_flooding/new_fine_tune_soft_label.py --soft_label "$SOFT_LABEL" \
        --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO"
    for group in robust non_robust random; do
        fine_tune "only_$group" finetune_with_select_data.py --group "$group" --set_percentage "$GROUP_SHARE"
    done
done

step "training curves"
"$PYTHON" plot_utils/training_curves.py --log "$OUTPUT"/*_seed*/log.jsonl --output "$OUTPUT/training_curves"

step "report"
"$PYTHON" plot_utils/report.py --statistics "$STATISTICS" --dataset_name "$DATASET" --data_dir "$DATA_DIR" \
    --within_class "$WITHIN_CLASS" --use_untrained_model "$USE_UNTRAINED_MODEL"

step "accuracy in percent, of perturbations the mean over severities $JUDGED_SEVERITIES"
"$PYTHON" scripts/compare_models.py --results_dir "$OUTPUT"
