"""Runs one command and reports what it used; so small that its own memory does not show.

    python -I -S measured_child.py REPORT_FD COMMAND...

The kernel counts the memory of the process that a command was started from as that of the
command, up to the moment its program is loaded.  So the benchmark, which may hold
gigabytes, starts this file, and this file the command.
"""

import os
import sys
import time


def main(report_fd: int, command: list[str]) -> None:
    """Run *command* with our own input and output, and write its figures to *report_fd*.

    One line: exit code, wall and processor seconds, peak memory in KiB.
    """
    os.set_inheritable(report_fd, False)
    begun_ns = time.perf_counter_ns()
    process_id = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process_id, 0)
    wall_seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    processor_seconds = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    line = f"{code} {wall_seconds!r} {processor_seconds!r} {usage.ru_maxrss}\n"
    os.write(report_fd, line.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
