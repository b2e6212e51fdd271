"""What the tests share: namespaces, commands with a limit, and the lock on the outside world."""
