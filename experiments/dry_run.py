"""What runs and sweeps will take, before they are begun: a line each, and of images a record.

The record is of programs, which arms and seeds share: what an update of each takes, and its hours
on one accelerator, at a share of its peak that is said and not known.
"""
import collections
import dataclasses
import functools
import json

from experiments import accelerators, cells, comparison, estimate, grid, image_cells, names
from mollification import build, files

NOT_COUNTED = ('likelihoods, features of data and compilation are not counted, nor samples in the '
               'number of a split')


@dataclasses.dataclass(frozen=True)
class Device:
  """One of `accelerators.ACCELERATORS`, and the share of its peak that programs reach."""
  name: str
  utilisation: float

  @property
  def accelerator(self):
    """What its maker says of it."""
    return accelerators.ACCELERATORS[self.name]

  def hours(self, flops):
    """What so many FLOPs take."""
    return self.accelerator.hours(flops, self.utilisation)

  def __str__(self):
    passes = self.accelerator.passes
    return (f'one {self.name} ({self.accelerator.flops / 1e12:g} TFLOP/s at {self.utilisation:.0%}'
            + (f", products of precision 'highest' {passes} times" if passes > 1 else '') + ')')


def listing(todo, device, programs):
  """Lines: each of `todo` [cells.Cell] with its state and its estimate; the sum of what is left.

  What is found of a program, which runs share, goes into the dict `programs`, for `write`.
  """
  left, costs = 0., {}
  for cell in todo:
    name = image_cells.program_of(cell.label)
    if name not in costs:
      costs[name] = _costs(cell.config, device.accelerator.passes)
    (cost, of_sample), state = costs[name], cells.state(cell)
    measuring = sum(n * of_sample(network) for network, n in samples_of(cell).items())
    training, measured = device.hours(cost.training), device.hours(measuring)
    programs[name] = program(cost, cell.config.batch_size, training, measured)
    left += training * (1 - cells.updates_done(cell) / cost.updates)
    left += 0. if state == 'done' else measured
    yield line(cell.label, state, cost, measured, device)
  yield f'{len(todo)} runs, {left:,.2g} h left on {device}; {NOT_COUNTED}'


def listing_of_sweeps(todo, device, results):
  """Lines: each of `todo` [grid.Cell] with its state and its estimate; the sum of what is left.

  Runs of a cell share a program, of which one update is counted; cells may share it, too. What the
  cells took that are recorded in the folder `results` is said as well: small nets are far from the
  peak of what they run on.
  """
  left, costs = 0., {}
  for cell in todo:
    name = _program_of(cell.config)
    if name not in costs:
      costs[name] = estimate.of_config(cell.config, device.accelerator.passes)
    cost, state = costs[name], cells.state(cell)
    hours = len(cell.runs) * device.hours(cost.training)
    left += 0. if state == 'done' else hours * (1 - cells.updates_done(cell) / cost.updates)
    yield (f'{cell.label}: {state}; {len(cell.runs)} runs, each {_sizes(cost, device)}; '
           f'{hours:.2g} h{_recorded(results / cell.label)}')
  yield (f'{len(todo)} cells, {left:,.2g} h left on {device}; evaluations and compilation are not '
         'counted')


def _program_of(config):
  """What runs have in common that are one program; of data it is their shape."""
  own = config.to_dict() | {'seed': None, 'data': build.spec(config)}
  return json.dumps(own, default=str, sort_keys=True)


def _recorded(folder):
  taken = grid.core_seconds(folder)
  return '' if taken is None else (f' (recorded: {len(grid.read(folder))} runs in '
                                   f'{taken / 3600:.2g} h of a core)')


def program(cost, batch, training, measuring):
  """What is recorded of a program, of its `estimate.Cost` and hours."""
  return {'parameters': cost.parameters, 'batch': batch, 'updates': cost.updates,
          'gflop': cost.flops / 1e9, 'memory_gb': cost.memory / 1e9, 'devices': cost.devices,
          'training_hours': training, 'measuring_hours': measuring}


def line(label, state, cost, measured, device):
  """What a run will take, of its `estimate.Cost` and the hours in which it is `measured`."""
  return (f'{label}: {state}; {_sizes(cost, device)}, {device.hours(cost.training):.2g} h, samples '
          f'and their features {measured:.2g} h')


def _sizes(cost, device):
  """Parameters, FLOPs by both counts, and memory, of an `estimate.Cost`."""
  where = f' on each of {cost.devices} devices' if cost.devices > 1 else ''
  where += '' if cost.memory < device.accelerator.memory else ', may not fit'
  return (f'{cost.parameters / 1e6:,.3g} M parameters, {cost.flops / 1e9:,.3g} GFLOP an update '
          f'(XLA counts {cost.xla_flops / 1e9:,.3g}, the body of a loop once), '
          f'{cost.memory / 1e9:.2g} GB{where}')


def _costs(config, passes):
  """The cost of a config, and of its samples by network, each counted once."""
  return (estimate.of_config(config, passes),
          functools.cache(functools.partial(estimate.of_sample, config, passes=passes)))


def samples_of(cell):
  """{network: samples of a run that are looked at in it}, of those whose number is a cell's own."""
  found = collections.Counter()
  for own in cell.networks:
    if own.network and own.num_samples:
      found[own.network] += own.num_samples
  return found


def write(path, device, programs):
  """Add `programs` to the record at `path`; those of another device it replaces."""
  known = json.loads(path.read_text()) if path.exists() else {}
  said = dataclasses.asdict(device)
  old = known['programs'] if known.get('device') == said else {}
  new = {name: old.get(name, {}) | program for name, program in programs.items()}
  rounded = {name: {key: float(f'{value:.4g}') if isinstance(value, float) else value
                    for key, value in program.items()} for name, program in new.items()}
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    part.write_text(json.dumps({'device': said, 'programs': old | rounded}, indent=1,
                               sort_keys=True) + '\n')


def markdown(path):
  """The record at `path` as a table, a program a line, and the sentences that it needs.

  What looks take may stand there alone, of programs whose runs were not listed: they have no line.
  """
  found = json.loads(path.read_text())
  programs = {name: own for name, own in found['programs'].items() if 'parameters' in own}
  lines = [('data', 'model', 'parameters', 'batch', 'updates', 'GFLOP an update', 'memory',
            'training', 'samples and features'), ('---',) * 9]
  for name, own in sorted(programs.items()):
    lines.append((*_named(name), f'{own["parameters"] / 1e6:.1f} M', f'{own["batch"]}',
                  f'{own["updates"]:,}', _gflop(own["gflop"]), f'{own["memory_gb"]:.2g} GB',
                  f'{own["training_hours"]:.2g} h', f'{own["measuring_hours"]:.2g} h'))
  return (f'{comparison.as_markdown(lines)}\n\nHours a run on {Device(**found["device"])}, in '
          f'float32; {NOT_COUNTED}.{_whole(found["programs"])}')


def _gflop(value):
  return f'{value:,.0f}' if value >= 10 else f'{value:.2g}'


def _named(name):
  dataset, model = name.split('/')
  return names.DATASETS.get(dataset, dataset), names.MODELS.get(model, model)


def _whole(programs):
  """What the tables at the paper's size take in all, of the programs that are recorded.

  A run that several tables name is trained once, and counts once in the sum.
  """
  tables = {table: image_cells.names(table, 'paper')
            for table, scales in image_cells.TABLES.items() if 'paper' in scales}
  tables['table_two_step'] = [f'{dataset}/{image_cells.TWO_STEP}/{arm}/0'
                              for dataset in image_cells.TABLES['table1']['paper']
                              for arm in ('vanilla', 'gaussian')]
  known = {table: runs for table, runs in tables.items()
           if all('training_hours' in programs.get(image_cells.program_of(name), {})
                  for name in runs)}
  said = [f'{table} {_rounded(_hours(runs, programs))} h ({len(runs)} runs)'
          for table, runs in known.items()]
  union = list(dict.fromkeys(name for runs in known.values() for name in runs))
  shared = [name for name in union if sum(name in runs for runs in known.values()) > 1]
  looks = [programs.get(image_cells.program_of(name), {}).get('looking_hours')
           for name in image_cells.watched('paper')]
  if None not in looks:
    said.append(f'fig_fid_over_training {_rounded(sum(looks))} h ({len(looks)} runs)')
  if not said:
    return ''
  whole = _hours(union, programs) + (sum(looks) if None not in looks else 0.)
  more = (f' (of them {_rounded(_hours(shared, programs))} h of {len(shared)} runs that two tables '
          'name, and that are trained once)' if shared else '')
  return f' With one seed an arm: {"; ".join(said)}. All together {_rounded(whole)} h{more}.'


def _rounded(hours):
  return f'{hours:,.0f}' if hours >= 10 else f'{hours:.2g}'


def _hours(runs, programs):
  own = [programs[image_cells.program_of(name)] for name in runs]
  return sum(one['training_hours'] + one['measuring_hours'] for one in own)
