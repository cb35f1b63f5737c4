"""`python -m seamount`."""

import sys

from seamount import main

if __name__ == "__main__":
    sys.exit(main())
