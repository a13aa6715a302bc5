"""What every other package may use: threads, tasks, text. Needs nothing but the standard library."""
