#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build what is missing, boot the machine, show each capability at work, then
# give a shell if there is a terminal.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

"$TOP/tools/build/kernel.sh" armature
"$TOP/tools/build/selftests.sh"
in_root "$TOP/tools/machine/plugins/build" "$BUILD/plugins" > "$LOGS/plugins.log" 2>&1 || die "the plugins do not build: build/log/plugins.log"
if [ -n "${CPU:-}" ]; then
	emulator=$("$TOP/tools/machine/qemu.sh")
	echo "$emulator" > "$BUILD/qemu-model"
	say run "booting: -cpu $CPU"
else
	say run "booting: a CPU without CTR_EL0.DIC, then one with everything"
fi
terminal=0
[ ! -t 0 ] || [ ! -t 1 ] || terminal=1
in_root env CPU="${CPU:-}" SMP="${SMP:-2}" PYTHONPATH="$TOP/tools/machine" "$TOP/tools/machine/show.py" "$terminal"
say run "done"
