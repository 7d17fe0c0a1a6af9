"""What is about to be trained, for people: parameters, data, mollified phase."""


def text(config, dataset, evaluation, mollified_steps):
  """Parameters by name and size, data, and the phase of `mollified_steps` updates."""
  from clu import parameter_overview
  state = evaluation.template()
  table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
  c, steps = config.mollify, mollified_steps
  phase = (f'{c.name} by {c.schedule}, updates 0 to {steps:,} of {config.total_steps:,}, level per '
           f'{c.granularity}' if steps else 'vanilla: level 0 throughout')
  shape = tuple(dataset.event_shape)
  if c.spread != 'none':
    phase += f', its level for each example by {c.spread} spread'
  if c.denoise:
    phase += '; samples are denoised, likelihood is that of the noisy density'
  lines = [table, f'data {dataset.name}: {dataset.train.num_examples:,} training examples {shape}',
           f'mollification {phase}']
  if evaluation.model.starts_from_data:
    lines.append(f'data-dependent layers start from the first batch, {_start(c.init_on, steps)} '
                 f'(mollify.init_on={c.init_on})')
  if not evaluation.has_likelihood:
    lines.append('no likelihood: pixels are not dequantised (prepare.dequantize=none)')
  return '\n'.join(lines)


def _start(init_on, steps):
  return 'mollified to its level' if init_on == 'mollified' and steps else 'clean'
