#!/usr/bin/env python3
"""Runs the end-to-end cases against the cluster of $KUBECONFIG; started by e2e/run. Arguments: parts of case names."""
import os
import sys

import harness
import case_install
import case_validate
import case_shop
import case_sql
import case_coldstart
import case_burst
import case_overload
import case_scaling
import case_streams
import case_failures
import case_faults
import case_rounds
import case_tls
import case_events
import case_chaos
import case_chart
import case_readme

MODULES = [case_install, case_validate, case_shop, case_sql, case_events, case_coldstart, case_burst, case_scaling, case_overload, case_streams, case_failures,
           case_faults, case_rounds, case_chaos, case_tls, case_chart]
if 'E2E_HOST_PID' in os.environ:  # the cluster of e2e/cluster, which the README tells to start
    MODULES.append(case_readme)


def main():
    harness.api = harness.Api()
    harness.database = harness.Database()
    try:
        version = harness.api.get('/version')
        print(f"server: {version['gitVersion']}, database: PostgreSQL {harness.database.admin('SHOW server_version')}")
        if harness.api.get('/apis/apiextensions.k8s.io/v1/customresourcedefinitions/functions.cicada.dev'):
            if os.environ.get('E2E_REUSE') != 'true':
                print('the cluster has the Function CRD already: refusing to touch it', file=sys.stderr)
                return 2
        passed, failed = harness.run_cases(MODULES, sys.argv[1:])
        for title in failed:
            print(f'FAILED: {title} (see build/e2e/{title}.txt)')
        print(f'{passed} passed, {len(failed)} failed')
        return 1 if failed or not passed else 0
    finally:
        harness.api.close()


if __name__ == '__main__':
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
