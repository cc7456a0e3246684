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

# bare CPU BRPS CTX_CMPS WRPS FEATURES IMINLINE [TSO [SPE]]: the image's own TAP, each
# line with the CPU. The numbers are what the image must find; see bare/main.rs.
bare() {
	local rc=0 line expected

	expected=$(($2 | $3 << 8 | $4 << 16 | $5 << 24 | $6 << 32 | ${7:-0} << 40 | ${8:-0} << 48))
	out=$(in_root timeout 60 "$qemu" -M virt,secure=on,virtualization=on,gic-version=3 -cpu "$1" -m 1G \
		-icount shift=0,sleep=off -nodefaults -display none -monitor none -serial stdio \
		-semihosting-config enable=on,target=native \
		-device "loader,addr=0x40100000,data=$expected,data-len=8" \
		-kernel "$BUILD/bare/image" 2> "$LOGS/bare-qemu.log") || rc=$?
	while read -r line; do
		case $line in
		'ok '*) result 0 "$1: ${line#ok * }" ;;
		'not ok '*) result 1 "$1: ${line#not ok * }" ;;
		*) echo "# $1: $line" ;;
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

# FEATURES: 1 FEAT_FGT, 2 FEAT_S2FWB, 4 DIC, 8 IDC.
bare max 6 2 4 15 4
bare cortex-a57 6 2 4 0 4
bare neoverse-n1 6 2 4 0 4
bare a64fx 6 2 4 0 6
bare max,brps=4,ctx-cmps=1 4 1 4 15 4
bare max,brps=2,ctx-cmps=1,wrps=2,fgt=off 2 1 2 14 4
bare max,brps=16,ctx-cmps=6,wrps=16 16 6 16 15 4
bare max,brps=16,ctx-cmps=16 16 16 4 15 4
bare max,fwb=off 6 2 4 13 4
bare max,dic=off 6 2 4 11 4
bare max,idc=off,iminline=6 6 2 4 7 6
bare max,tso=on 6 2 4 15 4 1
bare max,tso=ro 6 2 4 15 4 2
bare max,tso=el12 6 2 4 15 4 3
bare max,tso=impdef 6 2 4 15 4 4
bare max,spe=on 6 2 4 15 4 0 1
first=$out
bare max,spe=on 6 2 4 15 4 0 1
[ "$first" = "$out" ] && grep -q '^# buffer 0x' <<< "$out"
result $? "max,spe=on: a second run says the same, with the same bytes in the buffer"
bare max,spe=on,fgt=off 6 2 4 14 4 0 1
traces=$(in_root timeout 60 "$qemu" -M virt,secure=on,virtualization=on,gic-version=3 -cpu max,tso=on -m 1G -nodefaults \
	-display none -monitor none -serial null -semihosting-config enable=on,target=native \
	-device "loader,addr=0x40100000,data=$((6 | 2 << 8 | 4 << 16 | 15 << 24 | 4 << 32 | 1 << 40)),data-len=8" \
	-trace arm_actlr_write -trace arm_sysreg_trap -kernel "$BUILD/bare/image" 2>&1)
result $? "the image runs with its accesses traced"
grep -q 'arm_actlr_write.*cpu 0 EL3 own of EL2 0 value 0xffffffffffffffff' <<< "$traces"
result $? "writes of ACTLR_EL1 can be traced"
grep -q 'arm_sysreg_trap.*cpu 0 EL1 to EL2: DBGBCR0_EL1 write' <<< "$traces"
result $? "trapped accesses to debug registers can be traced"
refused "'1' is no value of 'brps'" -cpu max,brps=1
refused "'17' is no value of 'brps'" -cpu max,brps=17
refused "'x' is no value of 'wrps'" -cpu max,wrps=4:x
refused "'' is no value of 'brps'" -cpu max,brps=4:
refused "'yes' is no value of 'spe'" -cpu max,spe=yes
refused "'ro' is no value of 'fgt'" -cpu max,fgt=ro
refused "'el12' is no value of 'fgt'" -cpu max,fgt=el12
refused "'1' is no value of 'iminline'" -cpu max,iminline=1
refused "there cannot be more context-aware breakpoints than breakpoints" -cpu max,brps=2,ctx-cmps=3
refused "'brps' has 3 values and the machine 2 CPUs" -cpu max,brps=6:8:4
refused "need gic-version=3" -M virt,gic-version=2 -cpu max,spe=on
help=$(in_root "$qemu" -M virt -nodefaults -cpu max,help)
for property in brps ctx-cmps wrps fgt fwb dic idc iminline tso spe; do
	grep -q "^  $property=<list>  - " <<< "$help"
	result $? "-cpu max,help lists $property"
done
echo "1..$n"
exit $failed
