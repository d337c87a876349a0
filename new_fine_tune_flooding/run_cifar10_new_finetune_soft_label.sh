#!/bin/sh
# Fine-tune on CIFAR-10 with soft labels of the robust instances; the settings, all of them free, stand in common.sh.
set -eu
cd "$(dirname "$0")"
. ./common.sh
fine_tune cifar10 soft_label
