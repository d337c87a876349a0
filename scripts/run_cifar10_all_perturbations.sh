#!/usr/bin/env bash
# CIFAR-10 under every perturbation of the catalogue: one training run, one clean pass per checkpoint, a file for each.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

DATASET=${DATASET:-cifar10}
DATA_DIR=${DATA_DIR:-data}
MODEL=${MODEL:-resnet20}
PERTURBATIONS=${PERTURBATIONS:-all}
SEED=${SEED:-42}
EPOCHS=${EPOCHS:-10}
BSZ=${BSZ:-128}
SEVERITY=${SEVERITY:-3}
OUTPUT=${OUTPUT:-results/cifar10_all_perturbations}

# shellcheck disable=SC2086  # several names, one word each
"$PYTHON" data_statistics.py --dataset_name "$DATASET" --data_dir "$DATA_DIR" --download 1 --model_name "$MODEL" \
    -t $PERTURBATIONS --severity "$SEVERITY" --epochs "$EPOCHS" --bsz "$BSZ" --seed "$SEED" --output_dir "$OUTPUT"
for file in "$OUTPUT"/robust_statistics_*.npy; do
    "$PYTHON" plot_utils/plotting.py --statistics "$file"
done
