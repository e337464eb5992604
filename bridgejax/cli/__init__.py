"""The command line: words and wiring."""

from bridgejax.cli.main import main as main
