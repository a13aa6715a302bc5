"""What l4lb writes for people and their tools: the process log and the access log."""
