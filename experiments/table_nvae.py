"""The paper's check on a stronger model: NVAE, vanilla training against noise and blur.

  python -m experiments.table_nvae --scale=digits|paper [--cells=...] [--shard=1/4]
    [--data_dir=DIR] [--dry_run] [--record]

On CIFAR-10 and CelebA (paper), and on the digits. What the flags do: experiments/image_command.py.
"""
import functools

from experiments import command, image_command

if __name__ == '__main__':
  image_command.define_flags('table_nvae', 'digits')
  command.run(functools.partial(image_command.run, 'table_nvae'))
