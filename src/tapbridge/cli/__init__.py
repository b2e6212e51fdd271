"""The command line: one file per command, `run(args, world) -> Result`. The only place that wires the parts."""
