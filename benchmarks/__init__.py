# SPDX-License-Identifier: MIT
"""How fast, beside everybody else and beside what is possible: `python -m benchmarks`.

Each file here that has a function `figures` holds one figure: its head says what is measured and
what the limit is. `figure` says what a figure is, and is all that a new one has to know.
"""
