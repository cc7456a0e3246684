# SPDX-License-Identifier: GPL-2.0
# Every target is one call into tools/; "make help" lists them.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

TARGETS := run migrate fleet shell test bench lint docs edit refresh series kernel module baseline deb doctor clean distclean help

.PHONY: $(TARGETS) FORCE
.NOTPARALLEL:
$(TARGETS):
	@tools/armature.sh $@

# Anything else, whether there is a file of that name or not, is told what there is.
%: FORCE
	@tools/armature.sh $@
FORCE: ;
Makefile: ;
