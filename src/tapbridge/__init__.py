"""Put QEMU guests on the network: one command, no packet lost, everything can be undone."""

__version__ = "0.1.0"
