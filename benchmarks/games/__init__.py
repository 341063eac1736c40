# SPDX-License-Identifier: MIT
"""Seven programs of the Benchmarks Game, each sequential, with snakefish and with a Pool."""
