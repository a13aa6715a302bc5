"""The logs: the process log and the access log, written without ever blocking the caller."""
