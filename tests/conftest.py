"Two files of tests run at a time, one thread each: threads that wait for each other would take the other's core."
import os

if "PYTEST_XDIST_WORKER" in os.environ: os.environ.setdefault("OMP_NUM_THREADS", "1")
