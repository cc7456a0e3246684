#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Runs the checks that a maintainer would run before reading the series; prints
# TAP, one line per check, and fails if a check fails. Logs are in build/log/lint-*.log.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

n=0
failed=0

# check NAME COMMAND...: runs one check, with its output in a separate log.
check() {
	local name=$1 log=$LOGS/lint-${1//[^a-zA-Z0-9]/-}.log

	shift
	n=$((n + 1))
	say lint "$name"
	if "$@" > "$log" 2>&1 < /dev/null; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		tail -n 15 "$log" | sed 's/^/# /'
		failed=1
	fi
}

ours() {
	(cd "$TOP" && git ls-files -co --exclude-standard -- "$@")
}

# Prints the objects of the upstream C and assembly files that the series touches, and of its own
# C files.
touched_objects() {
	{
		sed -n 's|^diff --git a/\(.*\)\.[cS] b/.*|\1.o|p' "$TOP"/patches/*.patch | grep -vE '^(rust|tools)/'
		ours 'arch/*.c' | sed 's/\.c$/.o/'
	} | sort -u | sed 's|/nvhe/\(.*\)\.o$|/nvhe/\1.nvhe.o|; s|/kvm/icache/\(el2.*\)\.o$|/kvm/hyp/nvhe/../../icache/\1.nvhe.o|'
}

rust_format() {
	local format="rustfmt --edition 2021 --config-path build/tree/.rustfmt.toml --check"

	# shellcheck disable=SC2046
	in_root $format $(ours '*.rs' ':!tools/test/host') || return 1
	# kernel.rs is read from standard input, since its modules are beside it only during the build.
	in_root sh -c "$format < tools/test/host/kernel.rs"
}

# Fails on warnings about lines that the series adds, not on warnings about upstream lines.
no_warning_of_ours() {
	in_root -b "$BUILD/tree:/armature/src" tools/lint/added.py build/tree base "$1"
}

rust_clippy() {
	local out=$LOGS/clippy.out rc=0 objects

	# The crate roots; the hypervisor's Makefile builds that of EL2.
	objects="rust/kernel.o samples/rust/rust_arm64_idregs.o arch/arm64/kernel/memory_model/memory_model.o
		arch/arm64/kvm/debug_topology/debug_topology.o arch/arm64/kvm/nolse/nolse.o
		arch/arm64/kvm/icache/icache.o arch/arm64/kvm/icache/el2.nvhe.o"
	# shellcheck disable=SC2086
	(cd "$BUILD/obj/clippy" && rm -f $objects)
	# shellcheck disable=SC2086
	"$TOP/tools/armature.sh" kernel clippy --make CLIPPY=1 ${objects/icache\/el2.nvhe.o/hyp\/nvhe\/} > "$out" 2>&1 || rc=$?
	# Programs outside the kernel. Like the kernel, they write register fields as shifts
	# combined with "or", without parentheses.
	for program in machine/bare/main machine/perf/workload oracle/payload; do
		in_root env SYSREG_CONSTS="$BUILD/sysreg/consts.rs" clippy-driver --edition 2021 --target aarch64-unknown-linux-gnu -C panic=abort -D warnings \
			-A clippy::precedence --emit=metadata -o /tmp/out "tools/$program.rs" >> "$out" 2>&1 || rc=$?
	done
	# Programs that run on the build host.
	for program in arch/arm64/tools/gen_sysreg/gen_sysreg tools/machine/plugins/opcodes/lib; do
		in_root clippy-driver --edition 2021 -D warnings --crate-type "$([ "${program##*/}" = lib ] && echo cdylib || echo bin)" \
			--emit=metadata -o /tmp/out "$program.rs" >> "$out" 2>&1 || rc=$?
	done
	in_root env CLIPPY=1 SYSREG_CONSTS="$BUILD/sysreg/consts.rs" tools/vmm/build "$BUILD/oracle/vmm" >> "$out" 2>&1 || rc=$?
	cat "$out"
	[ $rc = 0 ] && ! grep -B3 -A8 -E '^ +--> .*(arm64|kernel/kvm\.rs|icache|nolse|debug_topology|memory_model|rust_arm64)' "$out"
}

rust_doc() {
	local out=$LOGS/rustdoc.out rc=0

	"$TOP/tools/armature.sh" kernel clippy --make rustdoc > "$out" 2>&1 || rc=$?
	cat "$out"
	[ $rc = 0 ] && ! grep -A6 -E '^(warning|error)' "$out" | grep -E 'kernel/(arm64|kvm)'
}

check_patches() {
	local out=$LOGS/checkpatch.out patches

	"$TOP/tools/build/series.sh" mail || return 1
	patches=$(find "$BUILD/series" -name '*.patch' ! -name '0000-*' | sort)
	in_root sh -c 'cd build/tree && scripts/checkpatch.pl --strict --no-signoff \
		--ignore FILE_PATH_CHANGES,CAMELCASE,NO_AUTHOR_SIGN_OFF,EMBEDDED_FILENAME --show-types "$@"' sh $patches > "$out" 2>&1 || true
	cat "$out"
	[ "$(grep -c '^total: ' "$out")" = "$(wc -w <<< "$patches")" ] && ! grep -qE '^(ERROR|WARNING|CHECK):' "$out"
}

# Builds the objects that the series touches with W=1 or sparse.
strict_objects() {
	local out=$LOGS/strict.out objects rc=0

	objects=$(touched_objects)
	(cd "$BUILD/obj/clippy" && rm -f $objects)
	"$TOP/tools/armature.sh" kernel clippy --make "$@" $objects > "$out" 2>&1 || rc=$?
	cat "$out"
	[ $rc = 0 ] && no_warning_of_ours "$out"
}

kernel_doc() {
	local out=$LOGS/kernel-doc.out

	# shellcheck disable=SC2046
	in_root sh -c 'cd build/tree && for f in "$@"; do scripts/kernel-doc -none -Wall "$f"; done' sh $(ours 'arch/*.h' 'arch/*.c') > "$out" 2>&1
	cat "$out"
	! grep -q . "$out"
}

shell_scripts() {
	local scripts

	scripts=$(ours tools .ci | grep -E '\.sh$|run$|build$|machine/init$|oracle/(compare|migrate)$')
	# 2319: "[ condition ]; report $? name" is how results are reported. 2034: "for try in 1 2".
	# shellcheck disable=SC2086
	in_root shellcheck -x -S warning -e SC2319,SC2034 $scripts
}

python_sources() {
	# shellcheck disable=SC2046
	in_root pyflakes3 $(ours '*.py') && in_root pycodestyle --max-line-length=100 $(ours '*.py') &&
		in_root env MYPYPATH=tools mypy --strict --cache-dir=/dev/null -p armature -p armature.tests
}

# Checks that the patches with deliberate defects still apply.
breaks_apply() {
	local patch rc=0

	for patch in "$TOP"/tools/test/breaks/*.patch; do
		git -C "$BUILD/tree" apply --check "$patch" || rc=1
		grep -q '^Noticed-by: .*: ' "$patch" || { echo "${patch##*/} names no test"; rc=1; }
	done
	return $rc
}

# Checks that files have no host names or paths of the development machine.
no_traces() {
	! (cd "$TOP" && git grep -nIE 'deb\.debian\.org|/root/|/home/' -- . ':!LICENSES' ':!tools/lint/lint.sh')
}

[ -n "${AS_IT_IS:-}" ] || "$TOP/tools/build/series.sh" tree
"$TOP/tools/armature.sh" kernel clippy prepare modules_prepare
"$TOP/tools/armature.sh" sysreg
check "rustfmt" rust_format
check "clippy" rust_clippy
check "rustdoc" rust_doc
check "checkpatch --strict" check_patches
check "W=1 on what is touched" strict_objects W=1
check "sparse on what is touched" strict_objects C=2
check "kernel-doc" kernel_doc
check "shellcheck" shell_scripts
check "pyflakes, and types where there are any" python_sources
check "breaks apply" breaks_apply
check "no host names or paths" no_traces
echo "1..$n"
exit $failed
