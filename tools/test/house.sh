#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# house.sh: tests the repository's own tools; prints TAP. Works on a copy of the
# checkout, so that nothing can be lost.
set -u -o pipefail
. "$(dirname "$0")/../build/lib.sh"

export GIT_CONFIG_GLOBAL=/dev/null
n=0
failed=0
work=$BUILD/house
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
copy=$work/copy

ok() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		failed=1
	fi
}

# says TEXT NAME COMMAND...: checks that the command fails with a message that contains TEXT.
says() {
	local text=$1 name=$2 out rc=0

	shift 2
	out=$("$@" 2>&1) || rc=$?
	[ $rc != 0 ] && grep -qF -- "$text" <<< "$out"
	ok $? "$name"
}

fresh_copy() {
	rm -rf "$copy"
	mkdir -p "$copy"
	(cd "$TOP" && git ls-files -co --exclude-standard -z | tar -c --null -T - -f -) | tar -x -C "$copy"
	git -C "$copy" init -q
	git -C "$copy" add -A
	git -C "$copy" -c user.name=a -c user.email=a@a commit -q -m copy
}

says "there is no target 'nonsense'" "an unknown target of make names the choices" \
	make -C "$TOP" --no-print-directory nonsense
says "there is no target 'tools'" "so does one that is the name of a file" \
	make -C "$TOP" --no-print-directory tools
says "there is no target 'nonsense'" "an unknown target names the choices" \
	"$TOP/tools/armature.sh" nonsense
says "CONFIG=nonsense is unknown: debug" "an unknown CONFIG names the choices" \
	env CONFIG=nonsense "$TOP/tools/armature.sh" test
says "matches nothing; it may be words of" "an ONLY that matches nothing names the choices" \
	env ONLY=no-such-test "$TOP/tools/armature.sh" test
says "SEEDS=many is no number" "a number that is none is named" \
	env SEEDS=many "$TOP/tools/armature.sh" test
says "prefixes takes the number of a patch" "so is a patch that has no number" \
	"$TOP/tools/armature.sh" prefixes first
says "there is no kernel 'nonsense'" "an unknown kernel names the choices" \
	"$TOP/tools/armature.sh" kernel nonsense

# Downloads without the pinned content: a wrong one, and a truncated one.
head -c 1000 /dev/zero > "$work/short.tar.xz"
"$TOP/tools/build/base.sh" check "$work/short.tar.xz" "$BASE_DEB" > /dev/null 2>&1
[ $? = 1 ]
ok $? "a truncated download is refused"
mkdir -p "$work/package/DEBIAN" "$work/package/usr/src"
head -c 200000 /dev/urandom > "$work/package/usr/src/linux-source-$BASE_SERIES.tar.xz"
printf 'Package: a\nVersion: %s\nArchitecture: all\nMaintainer: a <a@a>\nDescription: a\n' \
	"$BASE_DEB" > "$work/package/DEBIAN/control"
in_root dpkg-deb -b --root-owner-group "$work/package" "$work/whole.deb" > /dev/null ||
	die "dpkg-deb makes no package"
head -c 100000 "$work/whole.deb" > "$work/half.deb"
for deb in whole half; do
	"$TOP/tools/build/base.sh" unpack "$work/$deb.deb" "$work/$deb" > /dev/null 2>&1
	[ $? = 1 ] && [ ! -e "$work/$deb/linux" ]
	ok $? "a package that is not what was pinned ($deb) is refused, and nothing of it is used"
done
# A full disk, before and while a step writes to it.
mkdir -p "$work/small" "$work/large/linux"
small() {
	bwrap --dev-bind / / --size 1048576 --tmpfs "$work/small" "$@"
}

says "this step needs 6: free some, or point XDG_CACHE_HOME elsewhere" \
	"a cache on a full disk is refused" \
	small env XDG_CACHE_HOME="$work/small" "$TOP/tools/build/root.sh"
head -c 4000000 /dev/zero > "$work/large/linux/zero"
in_root tar -C "$work/large" -cJf "$work/package/usr/src/linux-source-$BASE_SERIES.tar.xz" linux
sed -i 's/^Version: .*/Version: 0/' "$work/package/DEBIAN/control"
in_root dpkg-deb -b --root-owner-group "$work/package" "$work/large.deb" > /dev/null ||
	die "dpkg-deb makes no package"
small "$TOP/tools/build/base.sh" unpack "$work/large.deb" "$work/small/x" > /dev/null 2>&1
[ $? = 2 ] && "$TOP/tools/build/base.sh" unpack "$work/large.deb" "$work/x" > /dev/null 2>&1
ok $? "a kernel source that does not fit is told from one that is damaged"
# Trees given by BASE=.
mkdir -p "$work/base/arch/arm64"
printf 'VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 2\n' > "$work/base/Makefile"
says "that tree is Linux 6.1.2, and the series is for $BASE_SERIES.y" \
	"BASE= of another series is refused" env BASE="$work/base" "$TOP/tools/build/base.sh"
printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = 0\n' "${BASE_SERIES%.*}" "${BASE_SERIES#*.}" > \
	"$work/base/Makefile"
touch "$work/base/.config"
says "make mrproper" "BASE= that has been built in is refused" \
	env BASE="$work/base" "$TOP/tools/build/base.sh"
says "is not a kernel source tree" "BASE= that is not a kernel is refused" \
	env BASE="$work" "$TOP/tools/build/base.sh"

fresh_copy
says "exists upstream" "the overlay cannot replace an upstream file" sh -c '
	cd "$1" && cp README.md samples/Makefile 2> /dev/null || touch samples/Makefile
	printf "\tsamples/Makefile\n" >> patches/series && tools/build/series.sh tip' sh "$copy"
fresh_copy
says "patches/series and the overlay differ" "a new file that no patch names is an error" \
	sh -c 'cd "$1" && touch arch/arm64/kvm/stray.c && tools/build/series.sh tip' sh "$copy"
fresh_copy
"$copy/tools/build/series.sh" edit > "$work/edit.log" 2>&1
# Prints the modules that a Rust file declares in a commit which does not have their files.
without_files() {
	local commit file module

	for commit in $(git rev-list base..HEAD); do
		for file in rust/kernel/arm64.rs rust/kernel/kvm.rs; do
			git show "$commit:$file" 2> /dev/null | sed -n 's/^pub mod \(.*\);$/\1/p' |
				while read -r module; do
					git cat-file -e "$commit:${file%.rs}/$module.rs" 2> /dev/null ||
						echo "$commit: $file: $module"
				done
		done
	done
}
(cd "$copy/build/edit" && [ -z "$(without_files)" ] &&
	git show HEAD:rust/kernel/kvm.rs | grep -q '^pub mod spe;$')
ok $? "a module is declared when its file lands"
git -C "$copy/build/edit" -c user.name=a -c user.email=a@a commit -q --amend -m "another subject"
touch "$copy/arch/arm64/kvm/later.c"
printf '\tarch/arm64/kvm/later.c\n' >> "$copy/patches/series"
says "patches/ has changed since 'make edit'" \
	"refreshing over a patches/ that was changed meanwhile is refused" \
	"$copy/tools/build/series.sh" refresh
[ -e "$copy/arch/arm64/kvm/later.c" ] && grep -q later.c "$copy/patches/series"
ok $? "and what was changed there is there still"
sed -i '$d' "$copy/patches/series"
rm "$copy/arch/arm64/kvm/later.c"
"$copy/tools/build/series.sh" refresh >> "$work/edit.log" 2>&1 &&
	grep -q '^Subject: \[PATCH\] another subject$' "$copy"/patches/*-another-subject.patch
ok $? "without that change it writes what was committed"

diff <(sed -n 's/^source //p' "$TOP/Kconfig") <(sed -n 's/^+source //p' "$TOP"/patches/*.patch) \
	> /dev/null
ok $? "the menu has the components that the patches have"

fresh_copy
first=$(cd "$copy/patches" && grep -l '^--- a/arch/arm64/tools/sysreg$' *.patch | head -n 1)
sed -i '0,/^-[A-Z]/s/^-\([A-Z]\)/-not \1/' "$copy/patches/$first"
says "$first does not apply" "a patch that does not apply is named" \
	"$copy/tools/build/series.sh" tip
line=$(sed -n 's/^@@ -\([0-9]*\),.*/\1/p' "$copy/patches/$first" | head -n 1)
says "arch/arm64/tools/sysreg:$line" "and so is its hunk, by file and line" \
	"$copy/tools/build/series.sh" tip

fresh_copy
"$copy/tools/build/series.sh" edit > "$work/edit.log" 2>&1 &&
	"$copy/tools/build/series.sh" refresh >> "$work/edit.log" 2>&1
ok $? "make edit, make refresh"
[ -z "$(git -C "$copy" status --porcelain)" ]
ok $? "refreshing what was applied changes nothing"
git -C "$copy" status --porcelain >&2

# The mails, applied to the pristine base, give the tree that is built.
"$copy/tools/build/series.sh" mail > /dev/null 2>&1
tip=$("$copy/tools/build/series.sh" tip)
am=$copy/build/edit
# shellcheck disable=SC2046
git -C "$am" checkout -q -f --detach base &&
	git -C "$am" -c user.name=a -c user.email=a@a am -q \
		$(find "$copy/build/series" -name "*.patch" ! -name "0000-*" | sort) > "$work/am.log" 2>&1
ok $? "git am takes the whole series"
[ "$(git -C "$am" rev-parse 'HEAD^{tree}')" = \
	"$(git -C "$copy/build/tree" rev-parse "$tip^{tree}")" ]
ok $? "git am of the series is overlay + patches"

# code OBJDIR OBJECT: prints the code of an object without line numbers and file names.
code() {
	in_root -b "$1:/armature/obj" bash -o pipefail -c '
		llvm-objdump -d -r --no-show-raw-insn --no-leading-addr "/armature/obj/$1" | tail -n +4 |
			sed "s/\.L[^ ]*//; s/<[^>]*>//"' bash "$2"
}

# Prints the objects of the upstream files that the series changes.
upstream_objects() {
	sed -n 's|^diff --git a/\(.*\)\.[cS] b/.*|\1.o|p' "$TOP"/patches/*.patch |
		grep -vE '^(rust|tools)/' | sort -u |
		sed 's|/nvhe/\(.*\)\.o$|/nvhe/\1.nvhe.o|; s|/pi/\(.*\)\.o$|/pi/\1.pi.o|'
}

if [ -n "${OBJECTS:-}" ]; then
	# The numbers of CPU capabilities are immediate operands, and two new capabilities change
	# the numbers of others, with or without the options. So the reference has these numbers,
	# and what the first patches mend in the base, and no other change.
	touched="prepare arch/arm64/kernel/ arch/arm64/kvm/ drivers/perf/arm_spe_pmu.o kernel/sys.o"
	"$TOP/tools/armature.sh" kernel reference $touched && "$TOP/tools/armature.sh" kernel off $touched
	ok $? "the base and what the series changes build without Rust, and so without its options"
	# same_code OBJECT: compares its code in both kernels.
	same_code() {
		code "$BUILD/obj/reference" "$1" > "$work/theirs" && code "$BUILD/obj/off" "$1" > "$work/ours" &&
			[ -s "$work/ours" ] && cmp -s "$work/theirs" "$work/ours"
	}
	for object in $(upstream_objects); do
		same_code "$object"
		ok $? "with the options off, $object is the code it was"
	done
	# Also compare the objects that include a changed header.
	compared=0 other=
	objects=$(cd "$BUILD/obj/reference" &&
		find arch/arm64/kernel arch/arm64/kvm -name '*.o' ! -name '*kvm_nvhe.*o')
	for object in $objects; do
		compared=$((compared + 1))
		cmp -s "$BUILD/obj/reference/$object" "$BUILD/obj/off/$object" || same_code "$object" ||
			other+=" $object"
	done
	[ $compared -gt 100 ] && [ -z "$other" ]
	ok $? "and so is every object of the kernel and of KVM ($compared)$other"
fi
echo "1..$n"
exit $failed
