"""A stream that claims to be a terminal, and what its reader would see."""

from __future__ import annotations

import io
import re


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screens(self) -> list[list[str]]:
        """Lines on the screen after each piece that was written, by the commands that a line drawn anew needs."""
        lines, row, shown = [""], 0, []
        for part in re.findall(r"\x1b\[\??\d+[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part[0] not in "\r\x1b":
                lines[row] = part.rstrip()  # every piece begins at the left
            shown.append([line for line in lines if line])
        return shown
