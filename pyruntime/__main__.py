"""`python -m pyruntime`: the OCI command line."""

import sys

from pyruntime.cli.main import main

sys.exit(main())
