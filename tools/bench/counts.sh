#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# counts.sh: the rows of `make bench` that stand for a "Must hold", on the kernels that
# the tests boot: TAP. Rows with the feature in use are shown and not judged.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

out=$BUILD/counts
rm -rf "$out"
mkdir -p "$out"
here=$TOP/tools/bench

# image KERNEL
image() {
	echo "$(< "$BUILD/kernel-$1")/arch/arm64/boot/Image"
}

# measure NAME CPU MODE: vanilla and ours, at the same time.
measure() {
	local emulator=qemu-system-aarch64 mode='' kernel pids=() pid

	case $2 in *,*) emulator=$(< "$BUILD/qemu-model") ;; esac
	[ "$3" = vhe ] || mode=kvm-arm.mode=$3
	for kernel in vanilla armature; do
		in_root env QEMU="$emulator" BENCH_TIMEOUT=300 "$here/run.sh" "$(image $kernel)" "$out/$1.$kernel" "$2" "$mode" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
}

n=0
# fact WHAT NAME [OPTION OF compare.py]...
fact() {
	local what=$1 name=$2 verdict='ok'

	shift 2
	in_root python3 -B "$here/compare.py" "$out/$name.vanilla" "$out/$name.armature" "$@" > "$out/table" || verdict='not ok'
	n=$((n + 1))
	sed 's/^/# /' "$out/table"
	echo "$verdict $n $what"
}

echo "TAP version 13"
echo "1..7"
for mode in vhe nvhe; do
	measure $mode max $mode
	fact "$mode: a VM that was left alone: nothing more for a hypercall, at most 0.1 % for KVM_RUN" $mode --only hypercall --only exit_to_user --only hypercall_debug --at-most hypercall=0 --at-most hypercall_debug=6
	fact "$mode: a VM whose breakpoints are mapped and in use costs less than before to switch" $mode --only hypercall_debug_mapped --only exit_to_user_debug_mapped --below hypercall_debug_mapped --below exit_to_user_debug_mapped
	fact "$mode: a write that traps because breakpoints are mapped costs at most 1.1 hypercalls" $mode --only debug_write_mapped --only debug_write_idle_mapped --cost debug_write_mapped --cost debug_write_idle_mapped --bound debug_write_mapped=110:hypercall_debug_mapped --bound debug_write_idle_mapped=110:hypercall
done
# Two switches each, and nothing but a patched-out branch in one.
fact "vhe: a context switch without the feature" vhe --only switch_process_pipe --only switch_thread_yield --at-most switch_process_pipe=2 --at-most switch_thread_yield=2
measure tso max,tso=on,midr=0x610f0ff0 vhe
in_root python3 -B "$here/compare.py" "$out/tso.vanilla" "$out/tso.armature" --only switch_process_pipe --only switch_thread_yield --only switch_thread_tso --cost switch_process_pipe --cost switch_thread_yield --cost switch_thread_tso | sed 's/^/# with the feature: /'
