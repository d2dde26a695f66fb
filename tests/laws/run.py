# run.py - starts the program under a launcher and keeps what it wrote
#
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the whole-program tests: one call is one run of `switchyard` on some ranks."""

import os
import subprocess
import sys

SKIP = 77

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_btl": "self,vader,tcp",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "PMIX_MCA_gds": "hash",
}


class Program:
    """The built binary with the launcher that belongs to its MPI library."""

    def __init__(self, binary, mpiexec):
        self.binary = os.path.abspath(binary)
        self.mpiexec = mpiexec

    def is_open_mpi(self):
        """Is the launcher Open MPI's?"""
        return b"OpenRTE" in subprocess.run([self.mpiexec, "--version"], capture_output=True, check=False).stdout

    def command(self, ranks, *options):
        return [self.mpiexec, "-n", str(ranks), self.binary, *map(str, options)]

    def run(self, ranks, *options, stdin=b"", timeout=300, wrap=None):
        """Runs on `ranks` ranks; `wrap` maps the command to another one. Returns the finished process, bytes kept."""
        command = self.command(ranks, *options)
        if wrap:
            command = wrap(command)
        return subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False,
                              env={**os.environ, **ENVIRONMENT})

    def answers(self, ranks, *options, stdin=b""):
        """What a run that must succeed wrote to stdout."""
        done = self.run(ranks, *options, stdin=stdin)
        if done.returncode != 0:
            fail(f"{ranks} ranks, {' '.join(map(str, options))}: exit {done.returncode}\n"
                 f"{done.stderr.decode(errors='replace')}")
        return done.stdout


def fail(text):
    """Ends the test red."""
    print(f"FAILED: {text}", flush=True)
    sys.exit(1)


def skip(text):
    """Ends the test as skipped, by name."""
    print(f"skipped: {text}", flush=True)
    sys.exit(SKIP)


def expect_equal(what, found, wanted):
    """Two byte strings must be equal; the first difference is shown."""
    if found == wanted:
        print(f"  equal: {what} ({len(wanted)} bytes)", flush=True)
        return
    at = next((i for i, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted)))
    fail(f"{what}: {len(found)} bytes, wanted {len(wanted)}; they part at byte {at}:\n"
         f"  found  {found[max(0, at - 40):at + 40]!r}\n  wanted {wanted[max(0, at - 40):at + 40]!r}")
