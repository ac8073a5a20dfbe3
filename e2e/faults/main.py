#!/usr/bin/env python3
"""Runs the fault suite against the cluster of $KUBECONFIG; started by e2e/faults/run. Arguments: names of faults; default: all."""
import os
import pathlib
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'cases'))
import harness
import case_install
import injections
import load
import suite

ROUNDS = int(os.environ.get('FAULT_ROUNDS', '20'))
LONG = ('function-rollout', 'gateway-rollout', 'chart-upgrade', 'pod-delete')


def parts():
    """{name: what to run}"""
    found = {name: lambda name=name: suite.graceful(name, ROUNDS) for name in injections.GRACEFUL}
    found['gateway-kill'] = lambda: suite.gateway_kill(ROUNDS)
    for name in LONG:
        found[f'long-{name}'] = lambda name=name: suite.long_in_flight(name)
    found['idle'] = lambda: suite.idle_ends(min(ROUNDS, 5))
    return found


def run_part(name, part):
    print(f'-- {name}', flush=True)
    start = time.monotonic()
    try:
        part()
    except Exception as error:  # every kind: a part that can't run has failed
        if not isinstance(error, harness.Failure):
            traceback.print_exc(file=sys.stdout)
        print(f'   FAILED {name} ({time.monotonic() - start:.0f} s): {error}', flush=True)
        harness.diagnose(f'faults-{name}')
        return False
    print(f'   ok ({time.monotonic() - start:.0f} s)', flush=True)
    return True


def main():
    wanted = sys.argv[1:] or list(parts())
    unknown = [name for name in wanted if name not in parts()]
    if unknown:
        print(f'no such fault: {unknown}; there are: {" ".join(parts())}', file=sys.stderr)
        return 2
    harness.api, harness.database = harness.Api(), harness.Database()
    try:
        case_install.test_helm_install_brings_operator_and_gateway_ready()
        case_install.test_shop_database()
        suite.make_functions()
        load.BUILD.mkdir(parents=True, exist_ok=True)
        results = {name: run_part(name, parts()[name]) for name in wanted}
        suite.delete_functions()
    finally:
        harness.api.close()
    for name, passed in results.items():
        if not passed:
            print(f'FAILED: {name} (see build/e2e/faults-{name}.txt)')
    print(f'{sum(results.values())} passed, {sum(not passed for passed in results.values())} failed')
    return 0 if all(results.values()) else 1


if __name__ == '__main__':
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
