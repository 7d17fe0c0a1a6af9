"""What the devices of an update send one another: rounds of collectives, and bytes, by its jaxpr.

A compiler sends together what does not wait for one another, so what takes time is the longest
chain: of a synchronised BatchNorm the mean, then the squares about it, and both again on the way
back; and last all gradients. A collective in a loop is one each time round.
"""
import math

from jax.extend import core

from experiments import estimate

SUMS = ('psum', 'psum_invariant')   # the only collectives of an update, whatever JAX calls them
_KNOWN = -math.inf


def rounds(jaxpr):
  """Collectives of a (closed) jaxpr of which each waits for the one before, loops in full.

  Of branches the longest counts, of a `while` one round.
  """
  inner = getattr(jaxpr, 'jaxpr', jaxpr)
  return max(_depths(inner, [0] * len(inner.invars)), default=0)


def sent(jaxpr):
  """Bytes of all that the collectives of a (closed) jaxpr sum, once each, loops in full."""
  return estimate.total(jaxpr, dict.fromkeys(
    SUMS, lambda eqn: sum(v.aval.size * v.aval.dtype.itemsize for v in eqn.invars)))


def _depths(jaxpr, given):
  """How many collectives stand before each output, of inputs that so many stand before.

  Before what is known without the inputs -inf do: a compiler multiplies, and sums nothing.
  """
  known = dict(zip(jaxpr.invars, given, strict=True))
  depth = lambda v: _KNOWN if isinstance(v, core.Literal) else known.get(v, _KNOWN)
  for eqn in jaxpr.eqns:
    known.update(zip(eqn.outvars, _through(eqn, [depth(v) for v in eqn.invars])))
  return [depth(v) for v in jaxpr.outvars]


def _through(eqn, before):
  first = max(before, default=_KNOWN)
  if eqn.primitive.name in SUMS:
    return [first + 1] * len(eqn.outvars)
  inner = [getattr(j, 'jaxpr', j) for j in estimate.inner_jaxprs(eqn.params)]
  if eqn.primitive.name == 'cond':
    return [max(found) for found in zip(*(_depths(j, before[1:]) for j in inner), strict=True)]
  if len(inner) == 1 and eqn.primitive.name != 'scan' and len(inner[0].invars) == len(before):
    return _depths(inner[0], before)
  times = eqn.params['length'] if eqn.primitive.name == 'scan' else 1
  added = max([0, *(depth for j in inner for depth in _depths(j, [0] * len(j.invars)))])
  return [first + times * added] * len(eqn.outvars)
