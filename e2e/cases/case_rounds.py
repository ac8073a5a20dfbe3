"""A short selection of the fault suite (e2e/faults): faults under two loads whose every request is accounted for."""
import sys

from harness import ROOT

sys.path.insert(0, str(ROOT / 'e2e' / 'faults'))
import suite  # noqa: E402


def with_functions(part):
    suite.make_functions()
    try:
        part()
    finally:
        suite.delete_functions()


def test_faults_cost_no_request():
    def faults():
        for name, count in (('function-rollout', 2), ('pod-delete', 3), ('scale-down', 1), ('scale-to-zero', 1), ('gateway-rollout', 1),
                            ('node-drain', 1)):
            print(f'    {name}')
            suite.graceful(name, count)
    with_functions(faults)


def test_a_killed_gateway_costs_what_it_had_at_most():
    with_functions(lambda: suite.gateway_kill(2))


def test_long_requests_outlive_a_rollout_of_the_gateways():
    with_functions(lambda: suite.long_in_flight('gateway-rollout'))


def test_idle_processes_end_at_once():
    with_functions(lambda: suite.idle_ends(3))
