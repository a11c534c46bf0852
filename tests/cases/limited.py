"""Run a command, and kill it above so many GiB or after so many seconds: limited.py GIB SECONDS COMMAND...

Prints what the command prints. Its status, or 137 where it was killed.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def resident_gib(pid):
    """The memory that a process has in use."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 2**20


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    gib, seconds = float(sys.argv[1]), float(sys.argv[2])
    process = subprocess.Popen(sys.argv[3:], stderr=subprocess.STDOUT, start_new_session=True)
    end, why = time.monotonic() + seconds, ""
    try:
        while process.poll() is None and not why:
            if resident_gib(process.pid) > gib:
                why = f"killed above {gib:g} GiB"
            elif time.monotonic() > end:
                why = f"killed after {seconds:g} s"
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if why:
        print(why)
        return 137
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main())
