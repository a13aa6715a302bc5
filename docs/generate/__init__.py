"""The parts of the documentation that the code knows best, written from it: `python -m docs.generate`.

A page marks each generated part with `<!-- begin NAME -->` and `<!-- end -->`; the rest is written by hand. A
test fails while a page and the code differ.
"""
