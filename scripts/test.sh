#!/usr/bin/env bash
# Runs the tests in .venv, which it makes where it is missing. Arguments go to pytest: `bash scripts/test.sh -m slow`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh requirements.txt tests/requirements.txt

"$PYTHON" -m pytest "$@"
echo "tests passed"
