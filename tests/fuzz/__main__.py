"""Ask again for the override lists of some seeds: `python -m tests.fuzz 17 204`."""

import os
import sys
import tempfile

from tests.fuzz.answering import ask, fault
from tests.fuzz.overrides import case

for seed in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        answer = ask(case(seed))
        print(f"seed {seed}: {case(seed)}\n{answer.out}{answer.err}{fault(answer, folder) or 'right'}\n")
