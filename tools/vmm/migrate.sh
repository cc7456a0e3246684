#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# migrate.sh [--tap]: build what it takes, then let a VM go from host to host
# (migrate.py). With --tap, as a step of a test that has built everything.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

if [ "${1:-}" = --tap ]; then
	echo 1..1
	if in_root "$TOP/tools/vmm/migrate.py" "${CONFIG:-armature}" > "$LOGS/migrate.log" 2>&1; then
		echo "ok 1 - $(tail -n 1 "$LOGS/migrate.log")"
	else
		echo "not ok 1 - $(tail -n 1 "$LOGS/migrate.log")"
		exit 1
	fi
	exit
fi
"$TOP/tools/build/series.sh" tree
"$TOP/tools/build/kernel.sh" armature
"$TOP/tools/build/kernel.sh" armature --objects > "$BUILD/kernel-armature"
emulator=$("$TOP/tools/machine/qemu.sh")
echo "$emulator" > "$BUILD/qemu-model"
say migrate "building the VMM and the guest"
"$TOP/tools/oracle/native.sh" build
say migrate "booting four hosts, one after the other"
in_root "$TOP/tools/vmm/migrate.py"
