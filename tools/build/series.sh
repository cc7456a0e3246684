#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Overlay + patches/ as commits on the base, and back.
#
#   series.sh tree      build/tree: the patched source that everything builds from
#   series.sh edit      build/edit: a work tree for changes, one commit per patch
#   series.sh refresh   write the commits of build/edit back to overlay and patches/
#   series.sh mail      build/series: the mails for a mailing list
#   series.sh tip       print the commit of base + series
#
# patches/series names the patches in order; indented lines below a patch are the
# new files that belong to it. Commits depend only on their content, so
# the same overlay always gives the same commit ids.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

PATCHES=$TOP/patches
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Recover from a refresh that was interrupted between two renames.
[ -d "$PATCHES" ] || [ ! -d "$PATCHES.old" ] || mv "$PATCHES.old" "$PATCHES"
# The directories with new kernel files.
OVERLAY="arch drivers include rust samples Documentation tools/testing"

export GIT_COMMITTER_NAME=Armature GIT_COMMITTER_EMAIL=armature@armature.invalid
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

# g ARGUMENTS: runs git on the repository that open_repo opened, and on no other.
g() {
	git --git-dir="$REPO/.git" --work-tree="$REPO" "$@"
}

overlay_files() {
	(cd "$TOP" && git ls-files -co --exclude-standard -- $OVERLAY |
		while read -r path; do [ ! -e "$path" ] || echo "$path"; done)
}

# Checks that every overlay file belongs to one patch, and every name in the series exists.
check_series() {
	local named have

	named=$(sed -n 's/^[ \t]\+//p' "$PATCHES/series" | sort)
	have=$(overlay_files | sort)
	[ -z "$(uniq -d <<< "$named")" ] ||
		die "patches/series names a file twice: $(uniq -d <<< "$named" | head -n 1)"
	[ "$named" = "$have" ] ||
		die "patches/series and the overlay differ:" \
			"$(diff <(echo "$named") <(echo "$have") | grep '^[<>]' | head -n 3 | tr '\n' ' ')" \
			"(< only named, > only there)"
}

# open_repo DIR: opens or creates a repository at DIR that borrows the base's objects.
open_repo() {
	local base

	base=$("$TOP/tools/build/base.sh")
	if [ -d "$1/.git" ] &&
		[ "$(cat "$1/.git/objects/info/alternates" 2> /dev/null)" != "$base/.git/objects" ]; then
		[ "$1" = "$BUILD/tree" ] || ! unsaved ||
			die "the base has changed under build/edit, which has work that is not in patches/:" \
				"move it away first"
		say tree "the base has changed: starting ${1##*/} again"
		rm -rf "$1"
	fi
	if [ ! -d "$1/.git" ]; then
		mkdir -p "$1"
		git -C "$1" init -q -b series
		echo "$base/.git/objects" > "$1/.git/objects/info/alternates"
		git -C "$1" config gc.auto 0
		git -C "$1" config user.name Armature
		git -C "$1" config user.email armature@armature.invalid
	fi
	# Remove locks of a killed git; no other command runs in this checkout.
	find "$1/.git" -name '*.lock' -delete
	REPO=$1
	BASE_COMMIT=$(git --git-dir="$base/.git" rev-parse base)
	g update-ref refs/heads/base "$BASE_COMMIT"
}

# later_modules: prints "FILE MODULE" for each Rust file and each module in its folder that lands
# with a later patch.
later_modules() {
	awk '/^[^#[:space:]]/ { patch++ }
		/^[[:space:]]/ { at[$1] = patch }
		END {
			for (file in at) {
				parent = file
				if (sub(/\/[^\/]*$/, ".rs", parent) && parent in at && at[file] > at[parent])
					print parent, file
			}
		}' "$PATCHES/series"
}

# add_declaring FILE: adds a Rust file without the lines that declare modules which have not landed
# yet. Rust's formatter does not accept a module without a file.
add_declaring() {
	local parent file missing=

	while read -r parent file; do
		[ "$parent" != "$1" ] || [[ $LANDED == *$'\n'"$file"$'\n'* ]] ||
			missing+=${missing:+|}$(basename "$file" .rs)
	done <<< "$LATER"
	g update-index --add --cacheinfo "100644,$(
		awk -v missing="^pub mod ($missing);$" '
			/^#\[cfg/ { above = above $0 "\n"; next }
			$0 !~ missing { printf "%s%s\n", above, $0 }
			{ above = "" }' "$TOP/$1" | cat -s | g hash-object -w --no-filters --stdin
	),$1"
}

# add_file PATH: adds a new file to the index, but never replaces an upstream file.
add_file() {
	local mode=100644

	! g cat-file -e "$BASE_COMMIT:$1" 2> /dev/null || die "$1 exists upstream: change it in a patch"
	[ ! -x "$TOP/$1" ] || mode=100755
	g update-index --add --cacheinfo "$mode,$(g hash-object -w --no-filters "$TOP/$1"),$1"
}

# commit_patch PARENT MAIL FILE...: commits one patch and its new files. LANDED names these files
# and those before, a line each, and LATER is the output of later_modules.
commit_patch() {
	local parent=$1 mail=$PATCHES/$2 tmp=$scratch/mail file module

	mkdir -p "$tmp"
	shift 2
	git mailinfo "$tmp/body" "$tmp/diff" < "$mail" > "$tmp/info"
	if grep -q '^diff --git' "$tmp/diff"; then
		g apply --cached --whitespace=error-all "$tmp/diff" 2> "$tmp/err" ||
			die "${mail##*/} does not apply to Linux $BASE_SERIES as it is (fuzz 0):" \
				"$(paste -sd' ' "$tmp/err")"
	fi
	for file; do
		add_file "$file"
	done
	while read -r file module; do
		[[ " $* " != *" $file "* && " $* " != *" $module "* ]] || echo "$file"
	done <<< "$LATER" | sort -u | while read -r file; do
		[[ $LANDED != *$'\n'"$file"$'\n'* ]] || add_declaring "$file"
	done
	field() { sed -n "s/^$1: //p" "$tmp/info"; }
	GIT_AUTHOR_NAME=$(field Author) GIT_AUTHOR_EMAIL=$(field Email) GIT_AUTHOR_DATE=$(field Date) \
		GIT_COMMITTER_DATE=$(field Date) \
		g commit-tree "$(g write-tree)" -p "$parent" -F <(field Subject; echo; cat "$tmp/body")
}

# stack: creates the commits of base + series and prints the last one. Touches no work tree.
stack() {
	local tip=$BASE_COMMIT patch='' files=() line LATER LANDED=$'\n'

	check_series
	LATER=$(later_modules)
	rm -f "$scratch/index"
	export GIT_INDEX_FILE=$scratch/index
	g read-tree "$BASE_COMMIT"
	while IFS= read -r line; do
		case $line in
		'#'* | '') ;;
		[[:space:]]*)
			line=${line#"${line%%[![:space:]]*}"}
			files+=("$line") LANDED+=$line$'\n'
			;;
		*)
			[ -z "$patch" ] || tip=$(commit_patch "$tip" "$patch" "${files[@]}")
			patch=$line files=()
			;;
		esac
	done < "$PATCHES/series"
	[ -z "$patch" ] || tip=$(commit_patch "$tip" "$patch" "${files[@]}")
	unset GIT_INDEX_FILE
	printf '%s\n' "$tip"
}

# check_out DIR COMMIT: checks out COMMIT, writing only files that differ, so that
# make rebuilds only objects that depend on them.
check_out() {
	g checkout -q -f --detach "$2"
}

tree() {
	local tip

	open_repo "$BUILD/tree"
	tip=$(stack)
	g update-ref refs/heads/series "$tip"
	[ "$(g rev-parse -q --verify HEAD)" = "$tip" ] ||
		say tree "checking out base + $(g rev-list --count "$BASE_COMMIT..$tip") patches"
	# This also reverts changes made by hand or by an interrupted run.
	check_out "$BUILD/tree" "$tip"
}

# unsaved: tests whether build/edit may have changes that refresh has not written back.
unsaved() {
	local edit=(git --git-dir="$BUILD/edit/.git" --work-tree="$BUILD/edit") changes done_

	# Without this reference "edit" has not finished, so there are no changes.
	done_=$("${edit[@]}" rev-parse -q --verify refs/armature/edit 2> /dev/null) || return 1
	changes=$("${edit[@]}" status --porcelain) || return 0
	[ -n "$changes" ] || [ "$("${edit[@]}" rev-parse -q --verify HEAD)" != "$done_" ]
}

edit() {
	local tip dir=$BUILD/edit

	! unsaved ||
		die "build/edit has work that is not in patches/: 'make refresh', or remove build/edit"
	open_repo "$dir"
	tip=$(stack)
	g checkout -q -f -B series "$tip"
	taken_from_here "$tip"
	say edit "build/edit is base + series: commit there, then 'make refresh'"
}

# taken_from_here COMMIT: records that build/edit and the overlay are the same at COMMIT. refresh
# compares both with COMMIT: it writes back only changes made in build/edit, and keeps changes
# made in the overlay.
taken_from_here() {
	rm -rf "$REPO/.git/patches"
	cp -a "$PATCHES" "$REPO/.git/patches"
	g update-ref refs/armature/edit "$1"
}

# same_patches DIR: tests whether patches/ equals DIR, except for the cover letter.
same_patches() {
	diff -rq --exclude=cover "$1" "$PATCHES" > /dev/null 2>&1
}

# mail_of COMMIT: prints a mail as in patches/: the message, then the diff of the
# files that exist upstream.
mail_of() {
	g -c core.abbrev=12 log -1 --format='From: %an <%ae>%nDate: %aD%nSubject: [PATCH] %s%n%n%b---' "$1"
	upstream_paths "$1" | {
		mapfile -t paths
		[ ${#paths[@]} = 0 ] || g -c core.abbrev=12 -c diff.algorithm=myers -c diff.indentHeuristic=true \
			diff-tree -p -r --no-renames --no-commit-id -U3 "$1" -- "${paths[@]}"
	}
}

# Print the paths of a commit that exist in the base, and those that do not.
upstream_paths() {
	local path

	g diff-tree -r --no-renames --no-commit-id --name-only "$1" | while read -r path; do
		! g cat-file -e "$BASE_COMMIT:$path" 2> /dev/null || echo "$path"
	done
}

new_paths() {
	local path

	g diff-tree -r --no-renames --no-commit-id --name-only --diff-filter=A "$1" |
		while read -r path; do
		g cat-file -e "$BASE_COMMIT:$path" 2> /dev/null || echo "$path"
	done
}

# refresh: writes all new files beside the existing ones, then renames them.
refresh() {
	local dir=$BUILD/edit new=$BUILD/refresh n=0 commit name path

	[ -d "$dir/.git" ] || die "there is no build/edit: 'make edit' makes it"
	open_repo "$dir"
	[ -z "$(g status --porcelain)" ] ||
		die "build/edit has changes or files that are not committed: commit or remove them first"
	[ -z "$(g rev-list --merges "$BASE_COMMIT..HEAD")" ] ||
		die "build/edit has a merge commit: the series is a line of commits"
	rm -rf "$new"
	mkdir -p "$new/patches" "$new/overlay"
	sed -n '/^#/p' "$PATCHES/series" > "$new/patches/series"
	for commit in $(g rev-list --reverse "$BASE_COMMIT..HEAD"); do
		n=$((n + 1))
		name=$(printf '%04d-%s.patch' $n "$(g log -1 --format=%f "$commit")")
		mail_of "$commit" > "$new/patches/$name"
		echo "$name" >> "$new/patches/series"
		new_paths "$commit" | sed 's/^/\t/' >> "$new/patches/series"
	done
	g diff --no-renames --name-only --diff-filter=A "$BASE_COMMIT" HEAD | while read -r path; do
		take_back "$path" "$new/overlay/$path"
	done
	[ ! -e "$PATCHES/cover" ] || cp "$PATCHES/cover" "$new/patches/"
	# The second test is for a refresh that was interrupted after its last rename.
	same_patches "$dir/.git/patches" || same_patches "$new/patches" ||
		die "patches/ has changed since 'make edit': undo that there ('git stash')," \
			"'make refresh', and make it again in build/edit"
	put_back "$new"
	taken_from_here HEAD
	say refresh "$n patches written; 'git status' shows what changed"
}

# take_back PATH OUT: writes the overlay's new file PATH to OUT. A file that was
# changed in the overlay but not in build/edit stays unchanged.
take_back() {
	local before=refs/armature/edit:$1 here=$TOP/$1

	mkdir -p "$(dirname "$2")"
	if [ -e "$here" ] &&
		[ "$(g rev-parse -q --verify "HEAD:$1")" = "$(g rev-parse -q --verify "$before")" ]; then
		cp -p "$here" "$2"
		return
	fi
	[ ! -e "$here" ] ||
		[ "$(g hash-object --no-filters "$here")" = "$(g rev-parse -q --verify "$before")" ] ||
		g cat-file blob "HEAD:$1" | cmp -s - "$here" ||
		die "$1 was changed both in the overlay and in build/edit: make them the same," \
			"then 'make refresh'"
	g cat-file blob "HEAD:$1" > "$2"
	[ "$(g ls-tree HEAD "$1" | cut -c1-6)" != 100755 ] || chmod +x "$2"
}

# put_back NEW: replaces overlay files and patches/ by those in NEW; identical files
# are not written, so that their times do not change.
put_back() {
	local path

	# Remove only files that the series named when build/edit was created: other
	# files are the user's new work.
	sed -n 's/^[ \t]\+//p' "$PATCHES/series" | while read -r path; do
		[ -e "$1/overlay/$path" ] || rm -f "$TOP/$path"
	done
	(cd "$1/overlay" && find . -type f -printf '%P\n') | while read -r path; do
		cmp -s "$1/overlay/$path" "$TOP/$path" ||
			{ mkdir -p "$TOP/$(dirname "$path")"; cp -p "$1/overlay/$path" "$TOP/$path"; }
	done
	rm -rf "$PATCHES.old"
	mv "$PATCHES" "$PATCHES.old"
	mv "$1/patches" "$PATCHES"
	rm -rf "$PATCHES.old" "$1"
}

# base_line: prints the cover letter's line about the base, whose commit exists only here.
base_line() {
	local version

	version=$(g log -1 --format=%s "$BASE_COMMIT")
	case ${BASE:-}$version in
	"Linux $BASE_VERSION") echo "Applies to $BASE_TAG as it is in Debian's package ($BASE_DEB)." ;;
	*) echo "Applies to $version." ;;
	esac
}

mail() {
	local tip

	open_repo "$BUILD/tree"
	tip=$(stack)
	rm -rf "$BUILD/series"
	g branch -q -f cover "$tip"
	g config branch.cover.description "$(cat "$PATCHES/cover")

$(base_line)"
	g -c core.abbrev=12 format-patch -q --cover-letter --cover-from-description=subject \
		--base="$BASE_COMMIT" \
		--no-signature --thread=shallow -o "$BUILD/series" "$BASE_COMMIT..cover"
	say series "$(find "$BUILD/series" -name '*.patch' | wc -l) mails in build/series: $(base_line)"
}

case ${1:-} in
tree | edit | refresh | mail) "$1" ;;
unsaved) ! unsaved || echo yes ;;
tip)
	open_repo "$BUILD/tree"
	stack
	;;
*) die "series.sh: tree, edit, refresh, mail or tip" ;;
esac
