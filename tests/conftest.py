import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and of the processes that tests start: two threads on a busy machine wait for each other
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, database=None)
settings.register_profile("long", deadline=None, max_examples=5000)  # make test-long
settings.load_profile("ci" if os.environ.get("CI") else "local")
