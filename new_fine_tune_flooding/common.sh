# Sourced by the run_*.sh beside it, from this folder. `fine_tune EXPERIMENT METHOD` collects the statistics of cifar10 or
# sst2, unless they are there, and fine-tunes with flooding or soft_label, once for each seed.
# Every setting below can be given in the environment: EPOCHS=3 SEEDS="1 2 3" sh run_cifar10_new_finetune_flooding.sh

# The project's own environment where there is one; ROBUST_DATA_PYTHON names another.
PYTHON=${ROBUST_DATA_PYTHON:-../.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3

DATA_DIR=${DATA_DIR:-../data}
DOWNLOAD=${DOWNLOAD:-1}      # fetches what is not in DATA_DIR; 0 takes what lies there as it is
STATISTICS=${STATISTICS:-}   # a statistics file; empty: collected into OUTPUT, once
SEEDS=${SEEDS:-42}           # of the fine-tuning; several: SEEDS="1 2 3"
SELECT_METRIC=${SELECT_METRIC:-perturbed_loss_mean_r}
SELECT_RATIO=${SELECT_RATIO:-0.3}
B=${B:-0.2}                    # flooding: level of the chosen instances, nats
SOFT_LABEL=${SOFT_LABEL:-0.8}  # soft labels: share of the golden class
BETA=${BETA:-1}                # weight of the losses; flooding: of those not chosen, soft labels: of the chosen ones
ADV_STEPS=${ADV_STEPS:-5}      # of the statistics, where they are collected under PGD
ADV_LR=${ADV_LR:-0.03}

# Images of your own, as <folder>/{train,test}/<class>/*: DATASET=imagefolder DATA_DIR=<folder>.
settings_of_cifar10() {
    DATASET=${DATASET:-cifar10}
    TASK=
    MODEL=${MODEL:-resnet20}
    PERTURBATION=${PERTURBATION:-blur}
    SEVERITY=${SEVERITY:-3}
    STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-10}
    STATISTIC_INTERVAL=${STATISTIC_INTERVAL:-1}   # epochs between two checkpoints
    STATISTICS_LR=${STATISTICS_LR:-}              # empty: the model's own
    WITH_UNTRAINED_MODEL=${WITH_UNTRAINED_MODEL:-1}   # 0 does not record the model before the first step
    DO_BALANCE_LABELS=${DO_BALANCE_LABELS:-0}     # 1 chooses the same number of every class
    EPOCHS=${EPOCHS:-10}
    BSZ=${BSZ:-128}
    LR=${LR:-1e-3}
    PGD_STEP=${PGD_STEP:-10}
    PGD_LR=${PGD_LR:-0.001}     # about eps/4
    PGD_EPS=${PGD_EPS:-0.004}   # 1/255
    OUTPUT=${OUTPUT:-../results/cifar10_fine_tune}
}

# The authors' setting; docs/using.md says it as options.
settings_of_sst2() {
    DATASET=${DATASET:-glue}
    TASK=${TASK:-sst2}
    MODEL=${MODEL:-bert-base-uncased}
    PERTURBATION=pgd
    SEVERITY=3                  # of no use to PGD
    STATISTICS_EPOCHS=${STATISTICS_EPOCHS:-3}
    STATISTIC_INTERVAL=${STATISTIC_INTERVAL:-0.35}
    WITH_UNTRAINED_MODEL=${WITH_UNTRAINED_MODEL:-0}
    DO_BALANCE_LABELS=${DO_BALANCE_LABELS:-1}
    case $method in
        flooding) EPOCHS=${EPOCHS:-3} ;;
        soft_label) EPOCHS=${EPOCHS:-5} ;;
    esac
    BSZ=${BSZ:-32}
    LR=${LR:-2e-5}
    STATISTICS_LR=${STATISTICS_LR:-$LR}
    PGD_STEP=${PGD_STEP:-5}
    PGD_LR=${PGD_LR:-0.03}
    PGD_EPS=${PGD_EPS:-}        # empty: PGD is held back by its steps alone
    OUTPUT=${OUTPUT:-../results/sst2_fine_tune}
}

# Sets STATISTICS, unless the user did, to the file that data_statistics.py says it saved; a finished run is not repeated.
prepare_statistics() {
    if [ -n "$STATISTICS" ]; then return; fi
    mkdir -p "$OUTPUT"
    told=$("$PYTHON" ../data_statistics.py --dataset_name "$DATASET" ${TASK:+--task_name "$TASK"} \
        --data_dir "$DATA_DIR" --download "$DOWNLOAD" --model_name "$MODEL" -t "$PERTURBATION" --severity "$SEVERITY" \
        --adv_steps "$ADV_STEPS" --adv_lr "$ADV_LR" --epochs "$STATISTICS_EPOCHS" \
        --statistic_interval "$STATISTIC_INTERVAL" --with_untrained_model "$WITH_UNTRAINED_MODEL" \
        --bsz "$BSZ" ${STATISTICS_LR:+--lr "$STATISTICS_LR"} --output_dir "$OUTPUT")
    printf '%s\n' "$told"
    STATISTICS=$(printf '%s\n' "$told" | sed -n 's/^saved //p' | head -n 1)
}

fine_tune() {
    method=$2
    "settings_of_$1"
    prepare_statistics
    case $method in
        flooding) set -- --b "$B" ;;
        soft_label) set -- --soft_label "$SOFT_LABEL" ;;
    esac
    if [ -n "$PGD_EPS" ]; then
        set -- "$@" --adv_init_mag "$PGD_EPS" --adv_max_norm "$PGD_EPS" --adv_norm_type linf
    fi
    # shellcheck disable=SC2086  # several seeds, one word each
    "$PYTHON" "new_fine_tune_$method.py" --statistics_source "$STATISTICS" --dataset_name "$DATASET" \
        ${TASK:+--task_name "$TASK"} --data_dir "$DATA_DIR" --model_name "$MODEL" --epochs "$EPOCHS" --bsz "$BSZ" \
        --lr "$LR" --seeds $SEEDS --select_metric "$SELECT_METRIC" --select_ratio "$SELECT_RATIO" \
        --do_balance_labels "$DO_BALANCE_LABELS" --beta "$BETA" --pgd_step "$PGD_STEP" --pgd_lr "$PGD_LR" "$@" \
        --results_file "$OUTPUT/results.csv" --output_dir "$OUTPUT/${method}_seed{seed}"
}
