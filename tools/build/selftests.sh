#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# selftests.sh: the kselftests that the matrix runs, static, into build/selftests.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

out=$BUILD/selftests
"$TOP/tools/build/series.sh" tree
mkdir -p "$out/kvm" "$out/arm64"
say selftests "building"
logged selftests in_root -b "$BUILD/tree:/armature/src" -b "$out:/armature/out" sh -eu -c '
	make="make -s -C /armature/src ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- -j$JOBS"
	$make O=/armature/out/headers INSTALL_HDR_PATH=/armature/out/usr headers_install
	$make -C tools/testing/selftests/kvm O=/armature/out/headers OUTPUT=/armature/out/kvm \
		KHDR_INCLUDES="-isystem /armature/out/usr/include" EXTRA_CFLAGS=-static
	$make -C tools/testing/selftests/arm64 ARM64_SUBTARGETS="nolse memory_model" OUTPUT=/armature/out/arm64 \
		KHDR_INCLUDES="-isystem /armature/out/usr/include" LDFLAGS=-static
'
