#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test.sh: the machine model alone, without a kernel: the bare-metal image on CPUs
# with different properties, and what the command line says to bad values. Prints
# TAP. build/qemu-model names the emulator.
set -u -o pipefail
. "$(dirname "$0")/../../build/lib.sh"

qemu=$(cat "$BUILD/qemu-model")
mkdir -p "$BUILD/bare"
in_root "$TOP/tools/machine/bare/build" "$BUILD/bare/image" > "$LOGS/bare.log" 2>&1 ||
	die "the bare-metal image does not build: build/log/bare.log"
n=0
failed=0

result() {
	n=$((n + 1))
	[ "$1" = 0 ] && echo "ok $n - $2" || { echo "not ok $n - $2"; failed=1; }
}

# bare CPU BRPS CTX_CMPS WRPS: the image's own TAP, each line with the CPU.
bare() {
	local rc=0 line

	out=$(in_root timeout 60 "$qemu" -M virt,secure=on,virtualization=on,gic-version=3 -cpu "$1" -m 1G \
		-icount shift=0 -nodefaults -display none -monitor none -serial stdio \
		-semihosting-config enable=on,target=native \
		-device "loader,addr=0x40100000,data=$(($2 | $3 << 8 | $4 << 16)),data-len=8" \
		-kernel "$BUILD/bare/image" 2> "$LOGS/bare-qemu.log") || rc=$?
	while read -r line; do
		case $line in
		'ok '*) result 0 "$1: ${line#ok * }" ;;
		'not ok '*) result 1 "$1: ${line#not ok * }" ;;
		esac
	done <<< "$out"
	[ "$rc" = 0 ] && grep -q "^1\.\.$(grep -cE '^(not )?ok ' <<< "$out")\$" <<< "$out"
	result $? "$1: the image runs to its end"
}

# refused TEXT ARGUMENTS...: QEMU ends with a message that has TEXT.
refused() {
	local text=$1 out

	shift
	! out=$(in_root timeout 20 "$qemu" -M virt -smp 2 -nodefaults -display none -S "$@" 2>&1) && grep -qF -- "$text" <<< "$out"
	result $? "refused: $*"
}

bare max 6 2 4
bare cortex-a57 6 2 4
bare neoverse-n1 6 2 4
bare a64fx 6 2 4
bare max,brps=4,ctx-cmps=1 4 1 4
bare max,brps=2,ctx-cmps=1,wrps=2,fgt=off 2 1 2
bare max,brps=16,ctx-cmps=6,wrps=16 16 6 16
bare max,brps=16,ctx-cmps=16 16 16 4
bare max,tso=on 6 2 4
bare max,tso=ro 6 2 4
bare max,spe=on 6 2 4
first=$out
bare max,spe=on 6 2 4
[ "$first" = "$out" ]
result $? "max,spe=on: a second run says the same to the byte"
bare max,spe=on,fgt=off 6 2 4
traces=$(in_root timeout 60 "$qemu" -M virt,secure=on,virtualization=on,gic-version=3 -cpu max,tso=on -m 1G -nodefaults \
	-display none -monitor none -serial null -semihosting-config enable=on,target=native \
	-trace arm_actlr_write -trace arm_sysreg_trap -kernel "$BUILD/bare/image" 2>&1) || true
grep -q 'arm_actlr_write.*cpu 0 EL3 value 0xffffffffffffffff' <<< "$traces"
result $? "writes of ACTLR_EL1 can be traced"
grep -q 'arm_sysreg_trap.*cpu 0 EL1 to EL2: DBGBCR0_EL1 write' <<< "$traces"
result $? "trapped accesses to debug registers can be traced"
refused "'1' is no value of 'brps'" -cpu max,brps=1
refused "'17' is no value of 'brps'" -cpu max,brps=17
refused "'x' is no value of 'wrps'" -cpu max,wrps=4:x
refused "'' is no value of 'brps'" -cpu max,brps=4:
refused "'yes' is no value of 'spe'" -cpu max,spe=yes
refused "'ro' is no value of 'fgt'" -cpu max,fgt=ro
refused "'1' is no value of 'iminline'" -cpu max,iminline=1
refused "there cannot be more context-aware breakpoints than breakpoints" -cpu max,brps=2,ctx-cmps=3
refused "'brps' has 3 values and the machine 2 CPUs" -cpu max,brps=6:8:4
refused "need gic-version=3" -M virt,gic-version=2 -cpu max,spe=on
help=$(in_root "$qemu" -M virt -cpu max,help)
for property in brps ctx-cmps wrps fgt fwb dic idc iminline tso spe; do
	grep -q "^  $property=<list>  - " <<< "$help"
	result $? "-cpu max,help lists $property"
done
echo "1..$n"
exit $failed
