#!/bin/sh
# Fine-tune on CIFAR-10 with flooding of the robust instances, after collecting their statistics if there are none.
# Images of your own, as <folder>/{train,test}/<class>/*: DATASET=imagefolder DATA_DIR=<folder>.
# Every setting can be given in the environment: EPOCHS=3 sh run_cifar10_new_finetune_flooding.sh
set -eu
cd "$(dirname "$0")"

DATASET=${DATASET:-cifar10}
DATA_DIR=${DATA_DIR:-../data}
DOWNLOAD=${DOWNLOAD:-1}      # fetches what is not in DATA_DIR
MODEL=${MODEL:-resnet20}
PERTURBATION=${PERTURBATION:-blur}
SEVERITY=${SEVERITY:-3}
STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-10}
STATISTICS=${STATISTICS:-}   # a statistics file; empty: collected into OUTPUT, or found there
EPOCHS=${EPOCHS:-10}
BSZ=${BSZ:-128}
LR=${LR:-1e-3}
SEEDS=${SEEDS:-42}         # several: SEEDS="1 2 3"
SELECT_METRIC=${SELECT_METRIC:-perturbed_loss_mean_r}
SELECT_RATIO=${SELECT_RATIO:-0.3}
B=${B:-0.2}           # flood level of the chosen instances, nats
BETA=${BETA:-1}     # weight of the losses that are not chosen
PGD_STEP=${PGD_STEP:-10}
PGD_LR=${PGD_LR:-0.001}     # about eps/4
PGD_EPS=${PGD_EPS:-0.004}   # 1/255
OUTPUT=${OUTPUT:-../results/cifar10_fine_tune}

. ./common.sh
prepare_statistics "robust_statistics_model${MODEL##*/}_dataset${DATASET}_*_t${PERTURBATION}_severity$SEVERITY.npy" \
    --dataset_name "$DATASET" --data_dir "$DATA_DIR" --download "$DOWNLOAD" --model_name "$MODEL" \
    -t "$PERTURBATION" --severity "$SEVERITY" --epochs "$STATISTICS_EPOCHS" --bsz "$BSZ"

for SEED in $SEEDS; do
    "$PYTHON" new_fine_tune_flooding.py --statistics_source "$STATISTICS" \
        --dataset_name "$DATASET" --data_dir "$DATA_DIR" \
        --model_name "$MODEL" --epochs "$EPOCHS" --bsz "$BSZ" --lr "$LR" --seed "$SEED" \
        --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO" \
        --b "$B" --beta "$BETA" \
        --pgd_step "$PGD_STEP" --pgd_lr "$PGD_LR" --adv_init_mag "$PGD_EPS" --adv_max_norm "$PGD_EPS" \
        --adv_norm_type linf \
        --results_file "$OUTPUT/results.csv" --output_dir "$OUTPUT/flooding_seed$SEED"
done
