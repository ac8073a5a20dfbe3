"""Events are neither lost nor done twice whatever dies: a short selection of the chaos test (e2e/chaos), and the same on the cluster, where operators die, too."""
import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import case_faults
import harness
from case_events import functions
from harness import ROOT, SHOP, SYSTEM, Failure, expect, kubectl, run, until


def passes(*command):
    done = subprocess.run([ROOT / 'e2e/chaos' / command[0], *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
    if done.returncode != 0:
        raise Failure(done.stdout)


def test_chaos_loses_and_doubles_no_event():
    passes('run', '--events', '1000', '--kills', '10', '--pause', '1', '--seconds', '120')


def test_events_of_a_runtime_that_is_cut_off_run_elsewhere():
    passes('cut')


# ---- on the cluster: events wake functions, and operators, pods and PostgreSQL die ----

# Each event is a number, which the transaction that sends it writes into chaos_sent, and the one that does it into chaos_done.
TABLES = """SET ROLE shop;
    CREATE TABLE public.chaos_sent (number bigserial PRIMARY KEY, by text NOT NULL);
    CREATE TABLE public.chaos_done (number bigint NOT NULL, by text NOT NULL);
    CREATE TABLE public.chaos_rows (number bigint PRIMARY KEY);"""
SEND = """SET ROLE shop; BEGIN;
    WITH e AS (INSERT INTO public.chaos_sent (by) SELECT q FROM unnest('{{one,many}}'::text[]) q, generate_series(1, {count}) RETURNING *)
    SELECT count(cicada.enqueue('chaos-' || by, jsonb_build_object('number', number))) FROM e;
    WITH e AS (INSERT INTO public.chaos_sent (by) SELECT 'row' FROM generate_series(1, {count}) RETURNING number)
    INSERT INTO public.chaos_rows SELECT number FROM e;
    {end};"""
WRONG = """SELECT (SELECT count(*) FROM public.chaos_sent s WHERE NOT EXISTS (SELECT FROM public.chaos_done d WHERE (d.number, d.by) = (s.number, s.by))),
    (SELECT count(*) FROM (SELECT FROM public.chaos_done GROUP BY number, by HAVING count(*) > 1) d),
    (SELECT count(*) FROM public.chaos_done d WHERE by <> 'tick' AND NOT EXISTS (SELECT FROM public.chaos_sent s WHERE (d.number, d.by) = (s.number, s.by)))"""
DONE = 'INSERT INTO public.chaos_done (number, by) '
FUNCTIONS = {
    'chaos-one': (DONE + "VALUES ((:_event::jsonb #>> '{data,number}')::bigint, 'one')", {'queue': {'name': 'chaos-one'}}),
    'chaos-many': (DONE + "SELECT (e #>> '{data,number}')::bigint, 'many' FROM jsonb_array_elements(:_events::jsonb) e",
                   {'queue': {'name': 'chaos-many'}, 'delivery': {'batchSize': 20}}),
    'chaos-row': (DONE + "VALUES ((:_event::jsonb #>> '{data,new,number}')::bigint, 'row')", {'table': {'name': 'public.chaos_rows', 'operations': ['INSERT']}}),
    'chaos-tick': (DONE + "VALUES (extract(epoch FROM (:_event::jsonb #>> '{data,tick}')::timestamptz), 'tick')", {'schedule': {'cron': '* * * * *'}}),
}
KILLS, LEAST_S = 20, 75
WORK_S, REST_S = 6, 4  # in rests functions fall asleep, and the next event has to wake them


def kill(namespace, pod):
    """Its process, as if it had crashed; then the pod, since what dies again and again is started later and later."""
    pid = harness.pod_process(pod)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    kubectl('delete', 'pod', pod, '-n', namespace, '--grace-period=0', '--force', '--wait=false', check=False)


def kill_leader(chance):
    leader = case_faults.leader()
    kill(SYSTEM, leader) if leader else kill_operator(chance)


def kill_operator(chance):
    for pod in chance.sample(harness.component_pods('operator'), 1):
        kill(SYSTEM, pod['metadata']['name'])


def kill_runtime(chance):
    pods = [pod['metadata']['name'] for name in FUNCTIONS for pod in harness.function_pods(name)]
    for pod in chance.sample(pods, min(1, len(pods))):
        kill(SHOP, pod)


def end_backends(_chance):
    with contextlib.suppress(Failure):
        harness.database.shop("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop' AND random() < 0.3")


def restart_postgres(chance):
    run(ROOT / 'e2e/cluster/restart', '--signal', chance.choice(['QUIT', 'INT']), '--pause', '1', 'postgres')


def produce(chance, stopping):
    """One transaction in five is rolled back; whether one that is cut off was committed is what chaos_sent says."""
    begin = time.monotonic()
    while not stopping.wait(0.05):
        if (time.monotonic() - begin) % (WORK_S + REST_S) < WORK_S:
            with contextlib.suppress(Failure):
                harness.database.shop(SEND.format(count=chance.randint(1, 5), end=chance.choice(['COMMIT'] * 4 + ['ROLLBACK'])))


def figures():
    """None while the database does not answer."""
    with contextlib.suppress(Failure):
        return [int(word) for word in harness.database.shop(WRONG).split('|')]
    return None


def test_events_survive_killed_operators_pods_and_databases():
    seed = int(time.time())
    chance, counts = random.Random(seed), {}
    kinds = [kill_leader, kill_operator, kill_runtime, kill_runtime, end_backends, restart_postgres]
    harness.database.shop(TABLES)
    manifests = [harness.sql_manifest(name, sql, result='None', triggers=[{'name': 'source', **trigger}], scaling={'idleSeconds': 1, 'maxReplicas': 2})
                 for name, (sql, trigger) in FUNCTIONS.items()]
    for manifest in manifests:
        del manifest['spec']['http']
    with functions(*manifests):
        stopping = threading.Event()
        producer = threading.Thread(target=produce, args=(random.Random(seed), stopping), daemon=True)
        producer.start()
        try:
            begin = time.monotonic()
            while sum(counts.values()) < KILLS or time.monotonic() - begin < LEAST_S:
                time.sleep(chance.uniform(1, 4))
                kind = chance.choice(kinds)
                kind(chance)
                counts[kind.__name__] = counts.get(kind.__name__, 0) + 1
        finally:
            stopping.set()
            producer.join()
        start = time.monotonic()
        until('every event is done', 150, lambda: (lambda found: found and found[0] == 0)(figures()), 1)
        sent, ticks = harness.database.shop("SELECT (SELECT count(*) FROM public.chaos_sent), (SELECT count(*) FROM public.chaos_done WHERE by = 'tick')").split('|')
        print(f'    seed {seed}: {sent} events and {ticks} ticks; {counts}; the last was done {time.monotonic() - start:.0f} s after the last was sent')
        case_faults.two_ready('operator')
        for name in FUNCTIONS:  # what is asleep has nothing left that could be done twice
            harness.wait_asleep(name, seconds=90, gone=False)
        lost, doubled, unsent = figures()
        expect(lost == doubled == unsent == 0, f'{lost} lost, {doubled} done twice, {unsent} of no event')
        dead = harness.database.shop('SELECT count(*) FROM cicada.dead_letter d JOIN cicada.queue q ON q.id = d.queue WHERE q.name LIKE \'%chaos%\'')
        expect(dead == '0', f'{dead} dead letters')
    harness.database.shop('SET ROLE shop; DROP TABLE public.chaos_sent, public.chaos_done, public.chaos_rows')
