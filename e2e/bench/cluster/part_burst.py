"""A burst from zero on a real cluster: 1, 5, 25, 100 functions called at once, beside as many bare scale patches. e2e/cases/case_burst.py measures."""
import json
import os
import pathlib
import statistics
import subprocess

from benchlib import report

SIZES = os.environ.get('BENCH_BURST', '1,5,25,100')
ROUNDS = os.environ.get('BENCH_ROUNDS', '5')
RESULTS = pathlib.Path('build/e2e/burst.json')


def run() -> None:
    RESULTS.unlink(missing_ok=True)
    subprocess.run(['e2e/run', 'burst'], check=True, env={**os.environ, 'E2E_BURST': SIZES, 'E2E_BURST_ROUNDS': ROUNDS})
    results = json.loads(RESULTS.read_text())
    rows = [[str(each['size']), f'{statistics.median(each["cicada"]):.2f}', f'{statistics.median(each["bare"]):.2f}', f'{each["ratio"]:.2f}'] for each in results]
    report.table(f'burst: from the first request to the last answer, beside bare scale patches to the last main(), {ROUNDS} rounds', ['at once', 'Cicada s', 'bare s', 'ratio'], rows)
    report.target(f'{results[-1]["size"]} at once, Cicada / bare', results[-1]['ratio'], 1.3, at_most=True)
    report.save('cluster-burst', results)
