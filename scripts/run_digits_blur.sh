#!/usr/bin/env bash
# Handwritten digits under blur: statistics and robust data map, in under a minute on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

SEED=${SEED:-42}
EPOCHS=${EPOCHS:-10}
SEVERITY=${SEVERITY:-3}
OUTPUT=${OUTPUT:-results/digits_blur}

"$PYTHON" data_statistics.py --dataset_name digits --model_name small_cnn -t blur --severity "$SEVERITY" \
    --epochs "$EPOCHS" --seed "$SEED" --output_dir "$OUTPUT"
"$PYTHON" plot_utils/plotting.py --exp digits --output_dir "$OUTPUT" --csv
