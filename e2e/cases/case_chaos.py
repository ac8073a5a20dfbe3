"""A short selection of the chaos test (e2e/chaos): events are neither lost nor done twice while runtimes and PostgreSQL are killed or cut off."""
import subprocess

from harness import ROOT, Failure


def passes(*command):
    done = subprocess.run([ROOT / 'e2e/chaos' / command[0], *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
    if done.returncode != 0:
        raise Failure(done.stdout)


def test_chaos_loses_and_doubles_no_event():
    passes('run', '--events', '1000', '--kills', '10', '--pause', '1', '--seconds', '120')


def test_events_of_a_runtime_that_is_cut_off_run_elsewhere():
    passes('cut')
