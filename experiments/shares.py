"""Which part of a list a machine takes that shares a folder with others."""
import hashlib


def share(labels, text):
  """Those of `labels` that the share 'i/n' has, in their order.

  Shares are mixed, by a hash: of runs with as many shares as models, none has all of the dearest.
  Raises ValueError for a share that is none, and for one that nothing is left for.
  """
  i, _, n = text.partition('/')
  if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
    raise ValueError(f'--shard must be i/n with i from 1 to n, got {text!r}.')
  dealt = sorted(labels, key=lambda label: hashlib.sha256(label.encode()).digest())
  own = set(dealt[int(i) - 1::int(n)])
  if not own:
    raise ValueError(f'--shard={text} has none of the {len(labels)} that are asked for; there are '
                     'as many shares at most.')
  return [label for label in labels if label in own]
