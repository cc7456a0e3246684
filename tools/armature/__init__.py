# SPDX-License-Identifier: GPL-2.0
"""Every command of the project but what has to come before Python.

tools/armature.sh makes the build root and starts this with the root's own Python, on the host;
what is built or booted runs in the root (process.inside).
"""
