#!/usr/bin/env bash
# What one GPU gives, in a call of at most 8 minutes; writes the last section of benchmarks/README.md.
#
#   bash benchmarks/gpu.sh FOLDER    images in train/<class>/ and test/<class>/, such as CIFAR-10 (JPEG)
#   bash benchmarks/gpu.sh --smoke   the same on a CPU, with little of everything; the README stays as it is
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-results/gpu}
mkdir -p "$out"
corruptions=(gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog
    brightness contrast elastic_transform pixelate jpeg_compression)
together=$(IFS=+ && echo "${corruptions[*]}")

if [ "${1:-}" = --smoke ]; then
    data=(--dataset_name digits --dataset_len 40)
    nets=(--models small_cnn --instances 40) texts=(--models tiny_bert --instances 8)
    few=(--repeats 1 --naive_instances 1) speed=(-t noise --runs 1 --seconds 0.001 --device cpu)
else
    data=(--dataset_name imagefolder --data_dir "${1:?give the folder of the images, or --smoke}" --num_workers 8)
    nets=(--models resnet18 --instances 50000) texts=(--models bert_base --instances 2000)
    few=(--repeats 3 --naive_instances 50) speed=(-t all --runs 3 --device cuda)
fi
job=("${data[@]}" --model_name resnet18 --epochs 1 --bsz 128 --eval_size 512 --precision bf16 -t "${corruptions[@]}" --severity 3
    --with_untrained_model 0 --overwrite 1)

timed() { # NAME COMMAND...: runs it, and notes its wall time
    local name=$1 started=$SECONDS
    shift
    "$@" | tee "$out/$name.log"
    local peak
    peak=$(grep -o '"peak_memory_mib": [0-9]*' "$out/$name/log.jsonl" 2>/dev/null | tail -1 | tr -cd 0-9 || true)
    echo "| $name | $((SECONDS - started)) s | ${peak:+$peak MiB} |" >>"$out/times.md"
}
: >"$out/times.md"
timed images python benchmarks/collection.py "${nets[@]}" "${few[@]}" --precisions bf16 -t identity "$together" \
    --output "$out/images.json"
timed texts python benchmarks/collection.py "${texts[@]}" "${few[@]}" --precisions bf16 -t pgd --output "$out/texts.json"
timed perturbations python benchmarks/perturbations.py "${speed[@]}" --output_dir "$out"
timed one python data_statistics.py "${job[@]}" --output_dir "$out/one"
timed two torchrun --nproc_per_node 2 data_statistics.py "${job[@]}" --output_dir "$out/two"

{
    echo "## On a GPU"
    echo
    echo "\`bash benchmarks/gpu.sh FOLDER\`, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)," \
        "$(grep -h '^hardware:' "$out/images.log"), torch $(python -c 'import torch; print(torch.__version__)')."
    for part in images texts perturbations; do
        echo
        grep -h '^[|-]' "$out/$part.log"
    done
    echo
    echo "Of these three; of \`python data_statistics.py ${job[*]}\`, one process; of two processes on the one GPU:"
    echo
    echo "| | wall time | peak memory of a process |"
    echo "|---|---|---|"
    cat "$out/times.md"
} >"$out/gpu.md"
if [ "${1:-}" != --smoke ]; then
    sed -i '/^## On a GPU$/,$d' benchmarks/README.md
    cat "$out/gpu.md" >>benchmarks/README.md
fi
cat "$out/gpu.md"
