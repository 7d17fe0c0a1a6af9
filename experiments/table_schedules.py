"""The paper's comparison of schedules: sigmoid (the arm gaussian), cosine and linear.

  python -m experiments.table_schedules --scale=cpu|paper [--cells=...] [--shard=1/4]
    [--data_dir=DIR] [--dry_run] [--record]

Five models on CIFAR-10 (paper), the VAE on Fashion-MNIST (cpu). Runs of Table 1 count here too.
What the flags do: experiments/image_command.py.
"""
import functools

from experiments import command, image_command

if __name__ == '__main__':
  image_command.define_flags('table_schedules', 'cpu')
  command.run(functools.partial(image_command.run, 'table_schedules'))
