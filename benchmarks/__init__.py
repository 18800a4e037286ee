"""Timings against plain loops: `make bench`, or one script at a time. The numbers and their commands: README.md."""
