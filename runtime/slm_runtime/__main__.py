"""`python -m slm_runtime`, and the zipapp's entry."""

import sys

from slm_runtime.entry import main

if __name__ == "__main__":
    sys.exit(main())
