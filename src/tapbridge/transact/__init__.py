"""Transactions: lock, journal, apply, and the way back."""
