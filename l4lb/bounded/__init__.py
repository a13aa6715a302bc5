"""Reading from foreign servers within bounds of bytes, nodes and steps.

The servers that provide lists, metrics or events may be broken or hostile, and one control plane serves all pools. So
nothing here works for more than a few milliseconds at once, and all work is proportional to what was received.
"""
