"""What every test may rely on."""

from __future__ import annotations

import signal

# A script that runs the tests in the background ignores Ctrl-C, and every child would with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
