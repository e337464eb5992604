"""``python -m bridgejax.applications.autonomy``: fly a lander with a copilot, or record how others do."""

import sys

from bridgejax.applications.autonomy._demo import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
