"""When the processes of a run leave the loop: all of them after the same update."""
import jax
import numpy as np
import orbax.checkpoint as ocp

from mollification import parallel
from mollification.training.preemption import Interrupted, Stop


def _has_notice(update):
  """Whether all processes have a notice of JAX's pre-emption service with this update.

  Never where the service is disabled, which JAX itself says by an error.
  """
  return ocp.utils.reached_preemption(update)


class Agreement:
  """When the processes of a run leave the loop: after the same update, all of them.

  A request in one process (`stop.requested`), a save that failed there, or a notice to JAX's
  pre-emption service, which a cluster's scheduler may send, is one of all: they hear of it with the
  call after. One process leaves with the call that was under way.
  """

  def __init__(self, stop):
    self._stop, self._noticed, self._pending = stop or Stop(), False, None

  def arm(self, new=True):
    """From here on there is something new to save, or nothing."""
    self._stop.armed = new

  def after(self, step, updates, failed=False):
    """Whether to save and leave after `step`, the end of a call of so many `updates`.

    `failed`: whether a save of this process has; the one that is due then says why, in all.
    """
    requested = self._stop.requested or failed
    if jax.process_count() == 1:
      return requested
    # JAX names one update after which all have the notice; it counts those that it is asked about.
    self._noticed |= any([_has_notice(update) for update in range(step - updates + 1, step + 1)])
    before, self._pending = self._pending, parallel.any_process(requested or self._noticed)
    return before is not None and bool(np.asarray(before.addressable_data(0)).any())

  def meanwhile(self):
    """Whether a request came since `after`; of several processes that is known with the next call.
    """
    return jax.process_count() == 1 and self._stop.requested

  def unless_stopped(self, fn):
    """`fn()`, or None where a signal cut it short; of several processes, `between` its batches."""
    try:
      with self._stop.interrupting(raising=jax.process_count() == 1):
        return fn()
    except Interrupted:
      return None

  def between(self):
    """Raise Interrupted in all of several processes where one is `asked`; all must call it."""
    if jax.process_count() > 1 and self.asked():
      raise Interrupted

  def asked(self):
    """Whether a process is asked to stop; all must call it, and none goes on before the others do.

    A notice to JAX's service is heard between updates alone: it names one of them.
    """
    return bool(np.any(parallel.all_processes(np.array(self._stop.requested))))
