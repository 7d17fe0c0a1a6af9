"""What a finished run leaves for tables: which records it should have, the time it took, copies."""
import contextlib
import dataclasses
import itertools
import json
import shutil
import statistics

from mollification import files, metrics


@dataclasses.dataclass(frozen=True)
class InFeatures:
  """Metrics in the features of a network, of so many samples, against a split of the data.

  The network is the data set's own for '', and samples are as many as the split has for 0. `groups`
  are those of the jackknife; 0: seeds alone tell how far a distance may be off.
  """
  metrics: tuple
  network: str = ''
  num_samples: int = 0
  split: str = 'test'
  groups: int = 0

  def extractor(self):
    """The network by name, None for the data set's own; raises where its weights are not there."""
    from mollification.evaluation import features
    return features.load(self.network) if self.network else None


def holds(folder, step, wanted, config, among=None):
  """Whether the records in the workdir `folder` have all of `wanted` [InFeatures] of `step`.

  What is wanted of no network by name may be in any that none of `among` names, which are all that
  a step may have, `wanted` for None. Raises ValueError where a record is of another config than the
  config.json beside it, and where one that is wanted is of other settings than those of `config`,
  which a workdir may change (another temperature of samples, say).
  """
  from mollification import measure
  from mollification.evaluation import records
  check_config(folder)
  found = [r for r in records.read_all(folder / 'records') if r.step == step]
  named = {own.network for own in among or wanted} - {''}

  def there(own, metric, record):
    net = (record.features or {}).get('net')
    if not (record.metric in called(metric) and record.reference['split'] == own.split
            and record.n == (own.num_samples or record.reference['n'])
            and (net == own.network if own.network else net not in named)):
      return False
    settings = measure.settings_for(metric, config)
    if record.settings != settings:
      raise ValueError(f'{folder}/records holds a {record.metric} measured with {record.settings}, '
                       f'which is wanted with {settings}; move it away.')
    return True

  return all(any(there(own, metric, record) for record in found)
             for own in wanted for metric in own.metrics)


def has_any(folder, step):
  """Whether a workdir has any record of `step`."""
  from mollification.evaluation import records
  return any(record.step == step for record in records.read_all(folder / 'records'))


def check_config(folder):
  """Raise ValueError where a record in a workdir is of another config than the one beside it."""
  from mollification.evaluation import records
  from mollification.training import workdir
  config = workdir.read_config(folder)
  if config is None or not (folder / 'records').is_dir():
    return
  wanted = workdir.identity(config)
  for record in records.read_all(folder / 'records'):
    if record.config_sha256 != wanted:
      raise ValueError(f'{folder}/records holds a {record.metric} of another config '
                       f'({record.config_sha256[:8]}, that of config.json is {wanted[:8]}); move '
                       'it away.')


def called(metric):
  """What the first record of a metric may be called, in whatever features."""
  from mollification import measurements
  from mollification.evaluation import scoring
  return set(scoring.NAMES.get(metric) or measurements.RECORDS[metric][:1])


def seconds(folder):
  """What seconds.json of a run says, {} where nobody wrote it."""
  path = folder / 'seconds.json'
  try:
    return json.loads(path.read_text()) if path.exists() else {}
  except ValueError as error:
    raise ValueError(f'{path} is damaged ({error}); remove it, and the run counts as one that was '
                     'not timed.') from error


def write_seconds(folder, **taken):
  """seconds.json of a run: `taken`, and what an update took by its metrics.jsonl.

  `update` is the mean; `quiet_update` the lower quartile over the intervals between rows, which
  other work on the machine disturbed least, None of a run that was cut. What was not timed in one
  go is None, or what is there; so is what is not named.
  """
  path = folder / 'seconds.json'
  before = seconds(folder)
  rows = [row for row in metrics.read_rows(folder / 'metrics.jsonl')
          if 'time/seconds_per_step' in row]
  found = {'training': None} | before | {
    name: before.get(name) if value is None else round(value, 1) for name, value in taken.items()}
  if rows:
    found['update'] = rows[-1]['time/seconds_per_step']
    paces = [(row['step'], row['time/seconds_per_step']) for row in rows]
    found['quiet_update'] = quiet_pace(paces) if found['training'] else None
  with files.replacing(path) as part:
    part.write_text(json.dumps(found) + '\n')


def quiet_pace(rows):
  """Seconds per update, the lower quartile over intervals, of [(update, mean pace so far)].

  Of a run that was done in one go: a row says the mean since its start, and what lies between two
  rows is the difference of their sums.
  """
  paces = [rows[0][1]]
  for (before, mean), (step, new) in itertools.pairwise(rows):
    between = (new * step - mean * before) / (step - before)
    paces.append(between if between > 0 else new)   # a mean counts from the second update on
  return statistics.quantiles(paces, n=4)[0] if len(paces) > 1 else paces[0]


def check_recorded(place, config):
  """Raise ValueError where `place` holds the record of another config, or of none that is known."""
  from mollification.training import workdir
  old = workdir.read_config(place)
  if old is None and (place / 'records').exists():
    raise ValueError(f'{place} holds records of a config that nobody knows; move them away to '
                     'record others.')
  if old is not None and not workdir.is_same_run(old, config):
    raise ValueError(f'{place} holds the record of another config; move it away to record '
                     'another.')


def looks_beside(folder, place):
  """Names of records of updates before the end in `place` that the run in `folder` has not."""
  from mollification.evaluation import records
  from mollification.training import workdir
  end = (workdir.read_config(place) or {}).get('total_steps')
  return [name for name in _lacking(folder, place)
          if records.read(place / 'records' / name).step != end]


def _lacking(folder, place):
  """Names of records in `place` that the run in `folder` has not, sorted."""
  there, here = ({path.name for path in (of / 'records').glob('*.json')} for of in (place, folder))
  return sorted(there - here)


@contextlib.contextmanager
def replacing(folder, place):
  """A copy of the records, config and seconds of the run in `folder`, to be added to.

  It takes the place of `place` once the block ends, and of nothing if that raises. Raises
  ValueError where a run of another config, or of none that is known, is recorded there, and where
  more is recorded there than the run in `folder` has.
  """
  from mollification.training import workdir
  check_config(folder)
  check_recorded(place, workdir.read_config(folder))
  lacks = _lacking(folder, place)
  if lacks:
    raise ValueError(f'{place} has {len(lacks)} records that {folder} lacks, like {lacks[0]}, '
                     'which would be lost; measure them there too (those of earlier updates: '
                     'experiments.fig_fid_over_training), or move them away.')
  with files.replacing_folder(place) as part:
    shutil.copytree(folder / 'records', part / 'records')
    for name in ('config.json', 'seconds.json'):
      if (folder / name).exists():
        shutil.copy(folder / name, part)
    yield part


def record(folder, place):
  """`replacing` with nothing added."""
  with replacing(folder, place):
    pass
