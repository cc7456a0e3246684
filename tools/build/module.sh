#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# module.sh [VARIANT]: Kbuild of this repository as an external module of that kernel (ours,
# unless one is named), into build/module.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

variant=${1:-armature}
"$TOP/tools/build/kernel.sh" "$variant"
obj=$("$TOP/tools/build/kernel.sh" "$variant" --objects)
# Nothing of another kernel's.
[ "$(cat "$BUILD/module/for" 2> /dev/null)" = "$variant" ] || rm -rf "$BUILD/module"
mkdir -p "$BUILD/module"
echo "$variant" > "$BUILD/module/for"
say module "building"
logged module in_root -b "$BUILD/tree:/armature/src" -b "$obj:/armature/obj" \
	make -C /armature/obj LLVM=1 ARCH=arm64 M="$TOP" MO="$BUILD/module" modules
say module "build/module/samples/rust/rust_arm64_idregs.ko"
