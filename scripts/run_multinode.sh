#!/usr/bin/env bash
# Several machines: start this on each of them, with the same RENDEZVOUS; the folders must be shared or alike.
#   RENDEZVOUS=first-machine:29500 NODES=2 bash scripts/run_multinode.sh --dataset_name cifar10 --data_dir data ...
# Arguments go to SCRIPT. A run that was stopped goes on when started again.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt

SCRIPT=${SCRIPT:-data_statistics.py}
RENDEZVOUS=${RENDEZVOUS:?set it to host:port of one of the machines}
NODES=${NODES:-2}
PROCESSES=${PROCESSES:-auto} # per machine: a number, gpu for one per GPU, or auto for that, and 1 without a GPU
RUN_ID=${RUN_ID:-robust_data}
MAX_RESTARTS=${MAX_RESTARTS:-3}

case $PROCESSES in
    auto | gpu)
        found=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')
        if [ "$found" = 0 ] && [ "$PROCESSES" = gpu ]; then
            echo "error: PROCESSES=gpu, but this machine has no GPU that torch can use; give a number of processes" >&2
            exit 2
        fi
        PROCESSES=$((found > 0 ? found : 1)) ;;
esac

# The launchers count restarts each for itself; a store of its own for every start keeps the processes together.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# exec, so that a signal meant for the run reaches it.
exec "$PYTHON" -m torch.distributed.run --nnodes "$NODES" --nproc_per_node "$PROCESSES" --max_restarts "$MAX_RESTARTS" \
    --rdzv_backend c10d --rdzv_endpoint "$RENDEZVOUS" --rdzv_id "$RUN_ID" "$SCRIPT" "$@"
