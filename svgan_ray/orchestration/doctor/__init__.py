"""Whether a set-up can run the jobs: one check, one line, one remedy.

`checks.py` looks at one machine, `cluster.py` at the Ray cluster and all its machines, `run.py` is the job.
"""
