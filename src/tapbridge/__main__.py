"""`python -m tapbridge`."""

from tapbridge.cli.main import main

raise SystemExit(main())
