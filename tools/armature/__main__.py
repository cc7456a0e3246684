# SPDX-License-Identifier: GPL-2.0
"""Starts the command that the command line names."""

import sys

from armature import cli

sys.exit(cli.main(sys.argv[1:]))
