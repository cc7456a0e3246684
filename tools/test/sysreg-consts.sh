#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Compares every constant that gen_sysreg.rs generates from arch/arm64/tools/sysreg with the C macro
# of the same name that gen-sysreg.awk generates, in both directions: each macro has a constant with
# the same value, and each constant has a macro.
#
# Usage: sysreg-consts.sh TREE_SOURCE_DIR
#
# Needs awk, rustc and a C compiler, all for the build host; CC, HOSTRUSTC and AWK name others.
# Writes nothing in the tree.

set -eu

[ $# -eq 1 ] || { echo "usage: $0 TREE_SOURCE_DIR" >&2; exit 2; }
tools=$1/arch/arm64/tools

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

rustc=${HOSTRUSTC:-rustc}

echo "# unit tests of gen-sysreg"
"$rustc" --edition 2021 --test -o "$work/unit" "$tools/gen_sysreg/gen_sysreg.rs"
"$work/unit" --quiet

"$rustc" --edition 2021 -o "$work/gen-sysreg" "$tools/gen_sysreg/gen_sysreg.rs"
"$work/gen-sysreg" --consts "$tools/sysreg" > "$work/consts.rs"
# No other step notices a type that cannot be generated.
"$work/gen-sysreg" --types "$tools/sysreg" > "$work/types.rs"
"${AWK:-awk}" -f "$tools/gen-sysreg.awk" "$tools/sysreg" > "$work/sysreg-defs.h"

# Both sides print lines of "name value", with numbers of all types in the same format; REG_* are
# the assembler's names for registers.

{
	cat <<-'EOF'
	#include <inttypes.h>
	#include <stdbool.h>
	#include <stdio.h>

	/* What asm/sysreg.h and linux/bits.h give. */
	#define UL(x)			(x##UL)
	#define GENMASK(h, l)		((~0ULL >> (63 - (h))) & (~0ULL << (l)))
	#define GENMASK_ULL(h, l)	GENMASK(h, l)
	EOF
	sed -n '/^#define Op0_shift/,/^#define sys_insn/p' "$1/arch/arm64/include/asm/sysreg.h"
	cat <<-'EOF'
	#include "sysreg-defs.h"

	#define STRING(x)	#x
	#define EXPAND(x)	STRING(x)
	#define NUMBER(x)	printf(#x " %#" PRIx64 "\n", (uint64_t)(x))
	#define NAME(x)		printf(#x " %s\n", EXPAND(x))

	int main(void)
	{
	EOF
	sed -n 's/^#define \([A-Za-z0-9_]*\)[ \t][ \t]*[^ \t].*/\1/p' "$work/sysreg-defs.h" |
		sed 's/^REG_.*/	NAME(&);/; t; s/.*/	NUMBER(&);/'
	printf '\treturn 0;\n}\n'
} > "$work/c.c"

{
	cat <<-'EOF'
	#[allow(non_upper_case_globals)]
	mod consts {
	    include!("consts.rs");
	}
	use consts::*;

	fn main() {
	EOF
	sed -n 's/^pub const \([A-Za-z0-9_]*\): &str = .*/    println!("\1 {}", \1);/p
		s/^pub const \([A-Za-z0-9_]*\): [a-z].*/    println!("\1 {:#x}", \1 as u64);/p' \
		"$work/consts.rs"
	echo "}"
} > "$work/rust.rs"

"${CC:-cc}" -O0 -o "$work/c" "$work/c.c"
"$rustc" --edition 2021 -C debuginfo=0 -o "$work/rust" "$work/rust.rs"

# C prints 0 without 0x.
"$work/c" | sed 's/ 0$/ 0x0/' | LC_ALL=C sort > "$work/c.txt"
"$work/rust" | LC_ALL=C sort > "$work/rust.txt"

# Every defined macro, and every generated constant, must have been printed.
macros=$(grep -c '^#define [A-Za-z0-9_]*[[:blank:]]*[^[:blank:]]' "$work/sysreg-defs.h")
macros=$((macros - $(grep -c '^#define __ASM_SYSREG_DEFS_H$' "$work/sysreg-defs.h")))
consts=$(grep -c '^pub const ' "$work/consts.rs")
for count in "C $macros $(wc -l < "$work/c.txt")" "Rust $consts $(wc -l < "$work/rust.txt")"; do
	set -- $count
	[ "$2" -eq "$3" ] || { echo "FAIL: $1 defines $2 values, and $3 were compared" >&2; exit 1; }
done

differences=$(diff "$work/c.txt" "$work/rust.txt" | grep -c '^[<>]') || true
echo "sysreg-consts: $macros C macros and $consts Rust constants compared, $differences differences"
if [ "$differences" -ne 0 ]; then
	diff "$work/c.txt" "$work/rust.txt" | head -40 >&2
	exit 1
fi
