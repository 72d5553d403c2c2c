"""Programs that tests start in processes of their own; they find each other by their folder, and hold no tests."""

collect_ignore = ["crafted.py", "distributed_run.py", "fuzz_run.py", "fuzzing.py"]
