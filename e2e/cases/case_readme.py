"""The README's cluster part, as somebody follows it: its commands, in the host's network, on a cluster that has nothing of ours yet."""
import os
import subprocess

import case_chart
import harness
from harness import ROOT, SHOP, SYSTEM, expect, kubectl, run


def clear():
    """What other cases installed goes: `helm install` is the README's, and its orders are the first."""
    pods = case_chart.our_pods()
    kubectl('delete', 'namespace', SHOP, '--ignore-not-found', timeout=180)
    run('helm', 'uninstall', 'cicada', '--namespace', SYSTEM, '--wait', check=False, timeout=200)
    case_chart.wait_pods_gone(pods, harness.StopWatch())
    kubectl('delete', 'namespace', SYSTEM, '--ignore-not-found', timeout=180)
    kubectl('delete', 'crd', 'functions.cicada.dev', '--ignore-not-found')
    harness.database.admin('DROP SCHEMA IF EXISTS cicada CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public')


def test_the_commands_of_the_readme():
    clear()
    host = f'/proc/{os.environ["E2E_HOST_PID"]}/ns'
    done = subprocess.run(['nsenter', f'--net={host}/net', f'--mount={host}/mnt', f'--wd={ROOT}', '.ci/run-readme', '--cluster',
                           'README.md'], capture_output=True, text=True, timeout=900)
    print('    ' + done.stdout.rstrip().replace('\n', '\n    '))
    expect(done.returncode == 0, done.stderr)
