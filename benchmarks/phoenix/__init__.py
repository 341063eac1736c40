# SPDX-License-Identifier: MIT
"""The eight programs of Phoenix (Ranger et al., HPCA 2007): a loop, the same by map, and by Pool.

In each, `sequential` is a plain program with globals, and `ours` is that program with `share=`:
what the loop did to globals, children do. `with_pool` is for comparison: it does what can be done
with a Pool, inherits the input and merges partial results by hand. Inputs are generated and
depend on the seed alone. Only the standard library is used, so that all run on PyPy too.
"""
