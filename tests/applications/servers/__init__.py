"""Servers as users run them, each started as a process of its own by the tests of the folder above."""
