#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# native.sh: debug programs, and what they do on machines that really have so many
# breakpoints; prints TAP. Leaves in build/oracle, for the boots that run the same
# programs in VMs: payload, vmm, compare, B-C.bin and B-C.trace. 6-2-el1 has the types of
# breakpoints only that need no EL2.
#
# SEEDS=N programs a topology (default 1000), MOVING=N that are saved and restored half-way
# (default 20). build/qemu-model names the emulator.
#
#   native.sh build            only build
#   native.sh trace B C FILE   only print what the programs in FILE do
set -u -o pipefail
. "$(dirname "$0")/../build/lib.sh"

qemu=$(cat "$BUILD/qemu-model") || die "build/qemu-model does not name an emulator: run 'make test ONLY=debug_topology' once"
out=$BUILD/oracle
topologies="2/1 2/2 4/2 5/1 6/1 6/2 6/2-el1"

# native B C FILE: the trace of the programs in FILE.
native() {
	in_root timeout 300 "$qemu" -M virt,gic-version=3 -cpu "max,brps=$1,ctx-cmps=$2" -m 128M \
		-nodefaults -display none -monitor none -serial stdio \
		-device "loader,file=$out/payload,addr=0x40200000,cpu-num=0" \
		-device "loader,file=$3,addr=0x44000000,force-raw=on"
}

if [ "${1:-}" = trace ]; then
	cp "$4" "$out/one.native"
	native "$2" "$3" "$out/one.native"
	exit
fi

mkdir -p "$out"
{ in_root "$TOP/tools/oracle/build" "$out/payload" && in_root "$TOP/tools/vmm/build" "$out/vmm"; } > "$LOGS/oracle.log" 2>&1 ||
	die "the oracle does not build: build/log/oracle.log"
cp "$TOP/tools/oracle/compare" "$TOP/tools/oracle/migrate" "$out/"
[ "${1:-}" != build ] || exit 0
seeds=${SEEDS:-1000}
n=0
failed=0
for topology in $topologies; do
	b=${topology%/*} c=${topology#*/} name=${topology/\//-} types=()
	case $c in *-el1) c=${c%-el1} types=(--el1) ;; esac
	rc=0
	rm -f "$out/$name".{bin,moving,trace}
	in_root "$TOP/tools/oracle/oracle.py" generate "$out/$name.bin" "$b" "$c" 1 "$seeds" "${types[@]}" &&
		in_root "$TOP/tools/oracle/oracle.py" generate "$out/$name.moving" "$b" "$c" 1 "${MOVING:-20}" --checkpoints &&
		native "$b" "$c" "$out/$name.bin" > "$out/$name.trace" 2> "$LOGS/oracle-qemu.log" || rc=$?
	hits=$(awk '{ sum += $2 } END { print sum + 0 }' "$out/$name.trace")
	quiet=$(awk '$2 == 0' "$out/$name.trace" | wc -l)
	n=$((n + 1))
	what="$seeds programs on $topology: $hits hits, $quiet programs without any"
	# Enough of them for a comparison to mean something.
	if [ $rc = 0 ] && [ "$(wc -l < "$out/$name.trace")" = "$seeds" ] && [ "$hits" -gt $((seeds * 10)) ] && [ $((quiet * 4)) -lt "$seeds" ]; then
		echo "ok $n - $what"
	else
		echo "not ok $n - $what (exit $rc)"
		failed=1
	fi
done
echo "1..$n"
exit $failed
