"""Who holds the NIC and its lease: one file per owner, one table."""
