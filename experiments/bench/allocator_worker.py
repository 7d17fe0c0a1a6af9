"""What `bench.allocator` has a process of its own do: an update a line, answered by its seconds."""
import argparse
import sys

from experiments.bench import rows, small
from mollification import allocator


def main():
  """Answer lines from stdin until it ends; whether freed memory is kept is settled before."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', required=True)
  parser.add_argument('--batch', type=int, default=0, help='0: that of the cell')
  parser.add_argument('--keep', action='store_true')
  args = parser.parse_args()
  if args.keep and not allocator.keep_freed():
    raise ValueError('this C library cannot be told to keep freed memory, or its environment says '
                     'otherwise; measure where glibc is, without MALLOC_ variables.')
  changes = {'batch_size': args.batch} if args.batch else {}
  update = small.calls_of('fashion_mnist', args.model, changes, ('vanilla',))['vanilla']
  for _ in sys.stdin:
    print(rows.seconds_of(update), flush=True)


if __name__ == '__main__':
  main()
