#!/bin/sh
# Fine-tune on SST-2 with flooding of the robust instances; the settings, all of them free, stand in common.sh.
set -eu
cd "$(dirname "$0")"
. ./common.sh
fine_tune sst2 flooding
