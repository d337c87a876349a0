# Sourced by the run_*.sh beside it, from this folder: names the Python, finds or collects the statistics.

# The project's own environment where there is one; ROBUST_DATA_PYTHON names another.
PYTHON=${ROBUST_DATA_PYTHON:-../.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3

# prepare_statistics PATTERN ARGUMENTS... sets STATISTICS, unless the user did, to the file in $OUTPUT whose name fits
# the pattern; where there is none, data_statistics.py collects it with these arguments.
prepare_statistics() {
    pattern=$1
    shift
    if [ -n "$STATISTICS" ]; then return; fi
    mkdir -p "$OUTPUT"
    if [ -z "$(find_statistics)" ]; then "$PYTHON" ../data_statistics.py "$@" --output_dir "$OUTPUT"; fi
    STATISTICS=$(find_statistics | head -n 1)
}

find_statistics() { find "$OUTPUT" -maxdepth 1 -name "$pattern" | sort; }
