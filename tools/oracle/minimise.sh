#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# minimise.sh B/C SEED CPU [GIVEN [MODE]]: the shortest part of a program that still does
# something else in a VM with B/C on a machine with CPU than on a machine that has B/C.
# GIVEN is what the VM is given, if not B/C: "-" for what the host has. MODE is of the host's KVM.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

[ $# -ge 3 ] || die "usage: minimise.sh B/C SEED CPU [GIVEN [MODE]]"
exec "$TOP/tools/oracle/oracle.py" minimise "${1%/*}" "${1#*/}" "$2" \
	"$TOP/tools/oracle/native.sh trace ${1%/*} ${1#*/}" \
	"bash -c '. \"$TOP/tools/build/lib.sh\"; cp \"\$1\" \"$BUILD/oracle/one\"; in_root \"$TOP/tools/oracle/in_vm.py\" \"$3\" \"${4:-$1}\" \"$BUILD/oracle/one\" ${5:-}' --"
