"""What is read from outside, within bounds of bytes, nodes and steps.

Servers that are asked for lists, metrics or events may be broken or hostile, and one control plane serves all pools. So
nothing here does more work at once than a few milliseconds of it, and none of it grows faster than what was received.
"""
