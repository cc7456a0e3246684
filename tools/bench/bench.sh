#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Instructions executed, the base kernel and ours side by side, on each CPU
# model and in each KVM mode; fails if an idle capability costs something. With CPU
# set, on that one alone: a property of the machine model gets its emulator.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

out=$BUILD/bench
rm -rf "$out"
mkdir -p "$out"
for kernel in vanilla bench; do
	"$TOP/tools/build/kernel.sh" "$kernel"
done
in_root "$TOP/tools/machine/plugins/build" "$BUILD/plugins" > "$LOGS/plugins.log" 2>&1 || die "the plugins do not build: build/log/plugins.log"
vanilla=$("$TOP/tools/build/kernel.sh" vanilla --objects)/arch/arm64/boot/Image
ours=$("$TOP/tools/build/kernel.sh" bench --objects)/arch/arm64/boot/Image

emulator=qemu-system-aarch64
case ${CPU:-} in
*,*) emulator=$("$TOP/tools/machine/qemu.sh") ;;
esac

# measure CPU MODE [OPTION OF compare.py]...: both kernels on one machine.
measure() {
	local cpu=$1 mode=$2 base=$out/$1-$2 extra=''

	shift 2
	case $cpu in *tso=on*) set -- "$@" --cost switch_thread_tso ;; esac
	[ "$mode" = vhe ] || extra=kvm-arm.mode=$mode
	say bench "$cpu, $mode"
	in_root env QEMU="$emulator" OPCODES="$BUILD/plugins/libopcodes.so" "$TOP/tools/bench/run.sh" "$vanilla" "$base.vanilla" "$cpu" "$extra"
	in_root env QEMU="$emulator" OPCODES="$BUILD/plugins/libopcodes.so" "$TOP/tools/bench/run.sh" "$ours" "$base.ours" "$cpu" "$extra"
	echo
	echo "$cpu, $mode"
	in_root python3 -B "$TOP/tools/bench/compare.py" "$base.vanilla" "$base.ours" --json "$base.json" --cost boot --cost debug_write_mapped --cost debug_write_idle_mapped --bound debug_write_mapped=110:hypercall_debug_mapped --bound debug_write_idle_mapped=110:hypercall "$@" || failed=1
}

failed=0
for mode in vhe nvhe protected; do
	if [ -n "${CPU:-}" ]; then
		measure "$CPU" "$mode"
		continue
	fi
	# Not in protected mode: the guest has as many breakpoints as the host there.
	case $mode in
	protected) measure max "$mode" ;;
	*) measure max "$mode" --below hypercall_debug_mapped --below exit_to_user_debug_mapped ;;
	esac
	# No CTR_EL0.DIC: here the bound on I-cache invalidation is at work.
	measure neoverse-n1 "$mode" --in-use exec_fault_4k --in-use exec_fault_2m
done
echo
[ $failed = 0 ] && echo "bench: an idle capability costs at most 0.1 %; 'boot' is shown and judged as 'boot_but_strings'" || echo "bench: FAILED, see above"
exit $failed
