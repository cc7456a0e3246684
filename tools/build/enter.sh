#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# enter.sh [-b DIR:MOUNT]... COMMAND...: runs a command in the build root (in_root of lib.sh).
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"
ENTER="exec" in_root "$@"
