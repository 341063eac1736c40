# SPDX-License-Identifier: MIT
"""Warnings that point at the line of the user's that led here."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

_PACKAGE = os.path.dirname(__file__)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside of this package.

    The option of `warnings.warn` for that, skip_file_prefixes, is newer than 3.9.
    """
    frame: FrameType = sys._getframe()
    while os.path.dirname(frame.f_code.co_filename) == _PACKAGE and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
