#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# usage: run.sh IMAGE OUTFILE CPU [EXTRA_CMDLINE]
#
# Boots IMAGE with the benchmark as its /init on one emulated CPU and writes
# the result lines to OUTFILE, the whole console to OUTFILE.log.  To be run
# inside the build root.  Knobs: CROSS_COMPILE, QEMU, BENCH_TIMEOUT (seconds), and
# OPCODES, the counting plugin, with which boot_but_strings is measured too.
#
# What makes two runs of one kernel the same run, instruction for instruction:
#   -icount shift=0,sleep=off   1 ns an instruction; idle time is skipped over
#   -smp 1                      one order of events
#   cntfrq=1000000000           a counter tick an instruction, on every model
#   -seed, dtb-randomness=off   FEAT_RNG and the seeds in the device tree
#   -rtc ...,clock=vm           no date from outside
#   nokaslr, norandmaps         addresses
# The command line is padded to one length: the alignment of the device tree's
# strings, which its length decides, is worth 0.13% of the boot figure.
# kunit.enable=0 keeps the number of tests built in out of the boot figure.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cross=${CROSS_COMPILE-aarch64-linux-gnu-}
qemu=${QEMU:-qemu-system-aarch64}
limit=${BENCH_TIMEOUT:-120}

fail() {
	echo "bench: $*" >&2
	exit 1
}

build_init() {
	(cd "$here" && "${cross}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror \
		-static -pthread -o "$1" \
		main.c result.c machine.c counter.c host.c vm.c kvm.c guest.S)
	"${cross}strip" "$1"
}

# The same archive from the same program: no time, owner or inode of its own.
pack() {
	build_init "$1/init"
	touch -d @0 "$1/init"
	(cd "$1" && echo init |
		cpio -o -H newc -R 0:0 --reproducible --quiet) > "$2"
}

# machine ARGUMENTS...: QEMU with this kernel.
machine() {
	timeout -k 5 "$limit" "$qemu" \
		-M virt,virtualization=on,gic-version=3,dtb-randomness=off \
		-cpu "$cpu,cntfrq=1000000000" -smp 1 -m 1G \
		-icount shift=0,sleep=off -seed 1 \
		-rtc base=2000-01-01,clock=vm \
		-nodefaults -serial stdio -display none -monitor none \
		-no-reboot -kernel "$image" "$@" < /dev/null
}

boot() {
	machine -initrd "$1" -append "$cmdline"
}

# How long these take depends on where the linker has put the strings.
STRINGS="strcmp strncmp strlen strnlen strchr strrchr memchr memcmp"

# The ranges of those functions, as the plugin takes them.
string_ranges() {
	sort "${image%/arch/arm64/boot/Image}/System.map" |
		awk -v names=" $STRINGS " '
			# One less, of which only the last digits can differ.
			function before(address, i, n) {
				for (i = 10; i <= 16; i++)
					n = n * 16 + index("0123456789abcdef", substr(address, i, 1)) - 1
				return substr(address, 1, 9) sprintf("%07x", n - 1)
			}
			name && $1 != first { range[name] = name ":" first "-" before($1); name = "" }
			index(names, " " $3 " ") && !($3 in range) { name = $3; first = $1 }
			END { for (n in range) printf "%s;", range[n] }' | sed 's/;$//'
}

# Boots once more, without a program to run, and leaves the strings out.
boot_but_strings() {
	machine -append "$(printf '%-256s' "$args rdinit=/none panic=-1")" \
		-plugin "$OPCODES,out=$1/opcodes,ranges=$(string_ranges)" > "$1/console" 2>&1 || :
	grep -aq 'Kernel panic - not syncing: No working init found' "$1/console" ||
		fail "$image did not boot to its end: $(tail -n 1 "$1/console")"
	awk '$1 == "insns" { all = $2 }
		$1 == "range" && $3 == "insns" && $2 != "other" { strings += $4 }
		END { if (!strings) exit 1; print "bench boot_but_strings", all - strings, 1 }' "$1/opcodes"
}

# A reason, and the end of what the machine said.
explain() {
	tail -n 15 "$log" >&2
	case $1 in
	124|137) fail "$image did not finish within $limit s; console: $log" ;;
	0) fail "$image stopped before the last benchmark; console: $log" ;;
	*) fail "$qemu failed with status $1; console: $log" ;;
	esac
}

[ $# -ge 3 ] || fail "usage: run.sh IMAGE OUTFILE CPU [EXTRA_CMDLINE]"
image=$1 out=$2 cpu=$3
args="console=ttyAMA0 quiet nokaslr norandmaps kunit.enable=0 ${4-}"
cmdline=$(printf '%-256s' "$args")
log=$out.log
[ -r "$image" ] || fail "cannot read $image"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
rm -f "$out"
mkdir "$work/root"
pack "$work/root" "$work/initrd"

status=0
boot "$work/initrd" > "$work/console" 2>&1 || status=$?
tr -d '\r' < "$work/console" > "$log"
grep -aq '^bench-end$' "$log" || explain "$status"
grep -aE '^(bench|info) ' "$log" > "$work/results"
[ -z "${OPCODES:-}" ] || boot_but_strings "$work" >> "$work/results"
cp "$work/results" "$out"
