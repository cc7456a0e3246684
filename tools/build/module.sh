#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# module.sh: Kbuild of this repository as an external module, into build/module.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

"$TOP/tools/build/kernel.sh" armature
mkdir -p "$BUILD/module"
say module "building"
logged module in_root -b "$BUILD/tree:/armature/src" -b "$BUILD/obj/armature:/armature/obj" \
	make -C /armature/obj LLVM=1 ARCH=arm64 M="$TOP" MO="$BUILD/module" modules
say module "build/module/samples/rust/rust_arm64_idregs.ko"
