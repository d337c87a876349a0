#!/usr/bin/env bash
# CIFAR-10 under blur: downloads the data set if it is not there, collects statistics, draws the map.
# Images of your own, as <folder>/{train,test}/<class>/*: DATASET=imagefolder DATA_DIR=<folder>.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

DATASET=${DATASET:-cifar10}
DATA_DIR=${DATA_DIR:-data}
MODEL=${MODEL:-resnet20}
SEED=${SEED:-42}
EPOCHS=${EPOCHS:-10}
BSZ=${BSZ:-128}
SEVERITY=${SEVERITY:-3}
OUTPUT=${OUTPUT:-results/cifar10_blur}

"$PYTHON" data_statistics.py --dataset_name "$DATASET" --data_dir "$DATA_DIR" --download 1 --model_name "$MODEL" \
    -t blur --severity "$SEVERITY" --epochs "$EPOCHS" --bsz "$BSZ" --seed "$SEED" --output_dir "$OUTPUT"
"$PYTHON" plot_utils/plotting.py --exp tblur --output_dir "$OUTPUT" --csv
