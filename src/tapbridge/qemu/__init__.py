"""QEMU: its command line, and becoming it."""
