"""Which guest is on which tap: processes, command lines, leases, neighbours, what is heard on the tap."""
