#!/usr/bin/env bash
# From a fresh clone to a robust data map: makes .venv, collects statistics on handwritten digits, draws the map.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

OUTPUT=results/quickstart

"$PYTHON" data_statistics.py --output_dir "$OUTPUT"
"$PYTHON" plot_utils/plotting.py --exp digits --output_dir "$OUTPUT" --output "$OUTPUT/robust_data_map"

echo
echo "quickstart finished; the statistics, their circumstances and the robust data map:"
ls -1 "$OUTPUT"/*.npy "$OUTPUT"/*.json "$OUTPUT"/robust_data_map.png "$OUTPUT"/robust_data_map.pdf
