"""The count of turns, which come from bytes alone, against the requests of real servers. See README.md."""
