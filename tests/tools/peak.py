#!/usr/bin/env python3
# peak.py - runs a program and says on stderr how much memory it had at most
#
# SPDX-License-Identifier: Apache-2.0
"""peak.py PROGRAM ARGUMENT...: the line "peak N" (bytes) is the last on stderr."""

import os
import resource
import subprocess
import sys

code = subprocess.run(sys.argv[1:], check=False).returncode
# One write, with its newline: print makes two, and the lines of two ranks then become one.
os.write(2, f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}\n".encode())
sys.exit(code)
