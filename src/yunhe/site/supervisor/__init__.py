"""Runs one job and writes down what became of it. Stands alone: only the standard library, `python -I -S`, so that
it can be started without the rest of Yunhe and goes on when that is replaced or gone.

    supervisor LEASE_DIR                 supervise the job of that directory
    supervisor --launcher LOCK [CGROUP...]
                                         read lease directories, one per line, from standard input; a forked
                                         supervisor with its seat waits for each (see `seat`). Behind a NUL a line
                                         has the job's secrets (see `given`): they are in no file below

It outlives the agent: an agent that comes back reads these files, each written whole and then renamed:

    spec.json      in   what to run (written by the process driver)
    cancel         in   a link that reads as the reason to stop; SIGURG makes it noticed at once
    claim          out  made once, locked while the supervisor lives: this is why a job never starts twice
    started.json   out  the job's process exists
    usage.json     out  totals so far
    log            out  what the job printed, as bytes, up to the cap
    exit.json      out  how it ended

Times are in ms: elapsed time on the monotonic clock, contact with the hub on CLOCK_BOOTTIME (it also counts
sleep), which is the same for all processes of the host.
"""
