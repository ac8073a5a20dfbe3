"""Rounds, medians, ratios, tables. A ratio is the median of the rounds' ratios: neighbours in time are compared."""
import json
import os
import pathlib
import statistics
from collections.abc import Callable

from . import build

Measurement = dict[str, float]


def machine() -> str:
    model = next((line.split(':')[1].strip() for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines()
                  if line.startswith('model name')), 'unknown processor')
    return f'{os.cpu_count()} x {model}, load average {os.getloadavg()[0]:.1f} (others\' work makes figures worse, ratios less so)'


class Comparison:
    """Several contestants, measured in turn: A B C A B C ..."""

    def __init__(self, names: list[str]):
        self.rounds: dict[str, list[Measurement]] = {name: [] for name in names}

    def measure(self, rounds: int, measure: Callable[[str], Measurement]) -> None:
        for _ in range(rounds):
            for name in self.rounds:
                self.rounds[name].append(measure(name))

    def median(self, name: str, figure: str) -> float:
        return statistics.median(each[figure] for each in self.rounds[name])

    def least(self, name: str, figure: str) -> float:
        return min(each[figure] for each in self.rounds[name])

    def ratio(self, name: str, base: str, figure: str = 'rate') -> float:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median(one[figure] / other[figure] if other[figure] else 0.0 for one, other in pairs)

    def errors(self, name: str) -> int:
        return int(sum(each.get('errors', 0) for each in self.rounds[name]))


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f'\n{title}')
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]]
        print('  ' + '  '.join(cells), flush=True)


def target(text: str, value: float, limit: float, at_most: bool = False) -> None:
    met = value <= limit if at_most else value >= limit
    print(f'  target: {text}: {"at most" if at_most else "at least"} {limit:g}, measured {value:.2f}: {"met" if met else "MISSED"}',
          flush=True)


def save(name: str, data: object) -> None:
    (build.OUT / f'{name}.json').write_text(json.dumps(data, indent=1) + '\n')
