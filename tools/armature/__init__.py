# SPDX-License-Identifier: GPL-2.0
"""Every command of the project, except the steps that must run before Python.

tools/armature.sh creates the build root and starts this package with the root's Python, on the
host; builds and machines run in the root (process.inside).
"""
