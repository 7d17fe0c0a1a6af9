"""What an update takes where glibc keeps freed memory: python -m experiments.bench.allocator

  [--json] [--only=MODEL,...]

The update of each of three models is that of `bench.small`, vanilla training of the cell of
`experiments.table1 --scale=cpu` on Fashion-MNIST, in two processes that take turns: one has called
`mollification.allocator.keep_freed`, as the binaries do, the other leaves glibc as it is. The ratio
is that of plain over kept; there is no bar, and where another allocator is loaded no difference.
Minutes; the record is made on one core by `taskset -c 1`.
"""
import functools
import sys

from experiments.bench import rows

MODELS = ('realnvp', 'vae', 'hvae')   # a flow, a small and a large VAE
PAIRS = 21


def measure(model, *flags):
  """The row of a model; `flags` are more of `allocator_worker`'s."""
  with (rows.worker('allocator_worker', f'--model={model}', *flags) as plain,
        rows.worker('allocator_worker', f'--model={model}', '--keep', *flags) as kept):
    timed = rows.interleaved(lambda: plain('update'), lambda: kept('update'), PAIRS,
                             clock=lambda ask: ask())
  return [rows.Row(f'{model}_kept', 1e3 * timed.b, 'ms/update', f'glibc as it is, {timed.words}',
                   1e3 * timed.a, timed.ratio, None, True)]


MEASURES = {model: functools.partial(measure, model) for model in MODELS}
SMOKE = {model: functools.partial(measure, model, '--batch=8') for model in MODELS}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
