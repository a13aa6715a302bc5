"""The pure C modules and the publication of snapshots, timed."""
