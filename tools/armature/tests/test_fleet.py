# SPDX-License-Identifier: GPL-2.0
"""Tests what judges the picture of a report."""

import struct
import unittest
import zlib

from armature.fleet import is_written_on


def png(rows: list[bytes]) -> bytes:
    """Returns a picture whose rows have these bytes, 3 a pixel. Its checksums are not valid."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + bytes(4)

    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    half = len(data) // 2
    parts = chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + parts + chunk(b"IEND", b"")


class Picture(unittest.TestCase):
    """A picture is blank, or is not."""

    def test_blank(self) -> None:
        """Tests a page of one colour, and one of a few."""
        self.assertFalse(is_written_on(png([b"\xff" * 300] * 100)))
        self.assertFalse(is_written_on(png([b"\xff\0\x80" * 100] * 100)))

    def test_written(self) -> None:
        """Tests a tenth of the rows, and less."""
        blank, text = b"\xff" * 300, bytes(range(150)) * 2
        self.assertTrue(is_written_on(png([blank] * 90 + [text] * 10)))
        self.assertFalse(is_written_on(png([blank] * 91 + [text] * 9)))
