#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Tests the TCG plugins: build, unit tests, comparison of the decoder with LLVM's, and runs of small
# bare-metal programs whose counts are known. Prints TAP; exits 1 if a test fails.
#
# Needs rustc, clang, lld and llvm, python3, qemu-system-aarch64.

set -u

here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
plugin=$out/libopcodes.so
failed=0
n=0

# try NAME COMMAND...: prints one TAP line, and the command's output if it fails.
try()
{
	name=$1
	shift
	n=$((n + 1))
	if "$@" > "$out/said" 2>&1; then
		echo "ok $n - $name"
	else
		sed 's/^/# /' "$out/said"
		echo "not ok $n - $name"
		failed=1
	fi
}

unit_tests()
{
	rustc --edition 2021 --test -A dead_code --out-dir "$out" --crate-name unit \
		"$here/opcodes/lib.rs" && "$out/unit"
}

decoder_agrees()
{
	rustc --edition 2021 -O --out-dir "$out" "$here/opcodes/classify.rs" &&
	python3 "$here/tests/decode.py" "$out/classify"
}

assemble()
{
	clang -target aarch64-none-elf -nostdlib -fuse-ld=lld -Wl,-Ttext=0x40100000 \
		-o "$out/$1.elf" "$here/tests/$1.S"
}

# run PROGRAM OPTION...
run()
{
	program=$1
	shift
	timeout 60 qemu-system-aarch64 -M virt,virtualization=on,gic-version=3 -cpu max -m 128M \
		-nodefaults -display none -monitor none -no-reboot -kernel "$out/$program.elf" "$@"
}

address()
{
	llvm-nm "$out/$1.elf" | awk -v name="$2" '$3 == name { print $1 }'
}

run_count()
{
	first=$(address count at_el2)
	next=$(address count at_el1)
	last=$(printf %x $((0x$next - 1)))
	options=where=lse+svc,ram=0x40000000-0x47ffffff,ranges=el2text:$first-$last
	run count -plugin "$plugin,out=$out/count.txt,$options" "$@"
}

# Compares the "//= KEY N" comments of the program, summed by key, with the report.
counts_match()
{
	sed -n 's,.*//= \([a-z0-9_ ]* [0-9]*\).*,\1,p' "$here/tests/count.S" |
	awk '
		{ n = $NF; sub(/ [0-9]+$/, ""); sum[$0] += n }
		END { for (key in sum) print key, sum[key] }' |
	sort > "$out/expected"
	test "$(wc -l < "$out/expected")" -gt 40 || return 1
	sort "$out/count.txt" | comm -23 "$out/expected" - > "$out/missing"
	cat "$out/missing"
	test ! -s "$out/missing"
}

# Checks that classes not named in the program are 0, except eret, whose count depends on how many
# instructions QEMU lacks.
rest_is_zero()
{
	named=$(awk '{ print $1 }' "$out/expected" | sort -u | tr '\n' ' ')
	awk -v named=" $named insns eret atomics ic dc " '
		NF == 2 && $2 != 0 && !index(named, " " $1 " ") { print; bad = 1 }
		END { exit bad }' "$out/count.txt"
}

# Compares with QEMU's log of executed blocks, which have one instruction each.
trace_matches()
{
	run count -accel tcg,one-insn-per-tb=on -d exec,nochain -D "$out/trace" || return 1
	llvm-objdump -d --mattr=+all "$out/count.elf" |
	sed -n 's/^ *\([0-9a-f]*\): \([0-9a-f]\{8\}\) .*/\1 \2/p' > "$out/text"
	sed -n 's,^Trace [0-9]*: [^/]*/0*\([0-9a-f]*\)/.*,\1,p' "$out/trace" > "$out/pcs"
	awk 'NR == FNR { opcode[$1] = $2; next } { print opcode[$1] }' "$out/text" "$out/pcs" |
	"$out/classify" | awk '
		{ insns++ } $2 != "-" && $2 != "mark" { sum[$2]++ }
		END { print "insns", insns; for (class in sum) print class, sum[class] }' |
	sort > "$out/traced"
	awk 'NF == 2 && $2 && $1 != "ic" && $1 != "dc" && $1 != "atomics"' "$out/count.txt" |
	sort | diff "$out/traced" -
}

unmatched_stop_is_reported()
{
	test "$(grep -c '^mark-error stop without start$' "$out/count.txt")" = 1 &&
	test "$(grep -c '^mark 3 insns ' "$out/count.txt")" = 1 &&
	! grep '^mark 4 ' "$out/count.txt"
}

# Checks the table by address: "shared" occurs once for each Exception level, and the total is that
# of the class.
sites_match()
{
	shared=$(address count shared)
	for count in "2 el2" "6 el1" "4 el0"; do
		line="where lse 0x$shared 0xf8218282 $count pa=0x${shared#00000000}"
		grep -Fx "$line" "$out/count.txt" || return 1
	done
	test "$(awk '/^where lse / { n += $5 } END { print n }' "$out/count.txt")" = \
	     "$(awk '$1 == "lse" { print $2 }' "$out/count.txt")" &&
	test "$(awk '/^where / { print $2 }' "$out/count.txt" | sort -u | tr '\n' ' ')" = "lse svc "
}

same_counts()
{
	cp "$out/count.txt" "$out/before.txt" && run_count "$@" &&
	diff "$out/before.txt" "$out/count.txt"
}

without_insns()
{
	run count -plugin "$plugin,out=$out/classes.txt,insns=off" &&
	! grep insns "$out/classes.txt" &&
	grep -v 'insns\|^where\|range' "$out/count.txt" | diff - "$out/classes.txt"
}

default_output_is_the_log()
{
	run count -d plugin -D "$out/log.txt" -plugin "$plugin" &&
	grep '^insns [1-9]' "$out/log.txt"
}

# Both vCPUs sleep 3 times for 0.8 s: 2.4 s if at the same time, 4.8 s if one after the other.
slow_delays_one_vcpu()
{
	run slow -smp 2 -accel tcg,thread=multi \
		-plugin "$plugin,out=$out/slow.txt,slow=ic_ialluis:800000" || return 1
	tenths=$(awk '$1 == "dc_cvac" { print $2 }' "$out/slow.txt")
	echo "$tenths tenths of a second"
	grep '^ic_ialluis 6$' "$out/slow.txt" && test "$tenths" -ge 24 && test "$tenths" -lt 48
}

# refused TEXT ARGUMENTS: checks that QEMU does not start, and the plugin prints the reason in a
# line.
refused()
{
	if run count -plugin "$plugin,$2" > "$out/refusal" 2>&1; then
		echo accepted
		return 1
	fi
	cat "$out/refusal"
	grep -- "^opcodes: .*$1" "$out/refusal" && test "$(grep -c '^opcodes: ' "$out/refusal")" = 1
}

echo "TAP version 13"
echo "1..20"
try "builds" "$here/build" "$out"
try "unit tests" unit_tests
try "decoder agrees with LLVM's" decoder_agrees
try "count.S assembles" assemble count
try "slow.S assembles" assemble slow
try "count.S runs" run_count
try "counts are those in the source" counts_match
try "all other counts are 0" rest_is_zero
try "counts are those of QEMU's execution log" trace_matches
try "marks are paired" unmatched_stop_is_reported
try "table by address" sites_match
try "two vCPUs' translations count the same" same_counts -smp 2 -accel tcg,thread=multi
try "-icount counts the same" same_counts -icount shift=0,sleep=off
try "insns=off" without_insns
try "default output is QEMU's log" default_output_is_the_log
try "slow= delays only the vCPU that executes" slow_delays_one_vcpu
try "unknown argument is refused" refused "unknown argument" "nosuch=1"
try "unknown class is refused" refused "unknown class 'nosuch'" "where=lse+nosuch"
try "bad range is refused" refused "LO is above HI" "ranges=a:2-1"
try "unwritable file is refused" refused "out=/nonexistent/x" "out=/nonexistent/x"
exit $failed
