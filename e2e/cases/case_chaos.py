"""A short selection of the chaos test (e2e/chaos): events are neither lost nor done twice while runtimes and PostgreSQL are killed."""
import subprocess

from harness import ROOT, Failure


def test_chaos_loses_and_doubles_no_event():
    done = subprocess.run([ROOT / 'e2e/chaos/run', '--events', '1000', '--kills', '10', '--pause', '1', '--seconds', '120'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
    if done.returncode != 0:
        raise Failure(done.stdout)
