# SPDX-License-Identifier: GPL-2.0
"""Tests of the code that judges: python3 -m unittest discover -t tools -s tools/armature/tests"""
