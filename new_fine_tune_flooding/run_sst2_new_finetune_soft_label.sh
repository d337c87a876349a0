#!/bin/sh
# Fine-tune on SST-2 with soft labels of the robust instances, after collecting their statistics if there are none.
# Every setting can be given in the environment: EPOCHS=3 sh run_sst2_new_finetune_soft_label.sh
set -eu
cd "$(dirname "$0")"

DATASET=${DATASET:-glue}
TASK=${TASK:-sst2}
DATA_DIR=${DATA_DIR:-../data}
DOWNLOAD=${DOWNLOAD:-1}      # 0 takes a zip or folder that lies in DATA_DIR as it is
MODEL=${MODEL:-bert-base-uncased}
STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-3}
STATISTIC_INTERVAL=${STATISTIC_INTERVAL:-0.35}   # epochs between two checkpoints
STATISTICS=${STATISTICS:-}   # a statistics file; empty: collected into OUTPUT, or found there
ADV_STEPS=${ADV_STEPS:-5}
ADV_LR=${ADV_LR:-0.03}
EPOCHS=${EPOCHS:-3}
BSZ=${BSZ:-32}
LR=${LR:-2e-5}
SEEDS=${SEEDS:-42}         # several: SEEDS="1 2 3"
SELECT_METRIC=${SELECT_METRIC:-perturbed_loss_mean_r}
SELECT_RATIO=${SELECT_RATIO:-0.3}
SOFT_LABEL=${SOFT_LABEL:-0.8}   # share of the golden class
BETA=${BETA:-1}     # weight of the losses that are chosen
PGD_STEP=${PGD_STEP:-5}
PGD_LR=${PGD_LR:-0.03}
OUTPUT=${OUTPUT:-../results/sst2_fine_tune}

. ./common.sh
prepare_statistics "robust_statistics_model${MODEL##*/}_dataset${DATASET}_task${TASK}_*_tpgd_severity*.npy" \
    --dataset_name "$DATASET" --task_name "$TASK" --data_dir "$DATA_DIR" --download "$DOWNLOAD" --model_name "$MODEL" \
    -t pgd --adv_steps "$ADV_STEPS" --adv_lr "$ADV_LR" --epochs "$STATISTICS_EPOCHS" \
    --statistic_interval "$STATISTIC_INTERVAL" --bsz "$BSZ" --lr "$LR"

for SEED in $SEEDS; do
    "$PYTHON" new_fine_tune_soft_label.py --statistics_source "$STATISTICS" \
        --dataset_name "$DATASET" --task_name "$TASK" --data_dir "$DATA_DIR" \
        --model_name "$MODEL" --epochs "$EPOCHS" --bsz "$BSZ" --lr "$LR" --seed "$SEED" \
        --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO" \
        --soft_label "$SOFT_LABEL" --beta "$BETA" \
        --pgd_step "$PGD_STEP" --pgd_lr "$PGD_LR" \
        --results_file "$OUTPUT/results.csv" --output_dir "$OUTPUT/soft_label_seed$SEED"
done
