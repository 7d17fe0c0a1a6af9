"""The paper's Table 1: seven models, vanilla training against noise and blur, from equal seeds.

  python -m experiments.table1 --scale=digits|cpu|paper [--cells=digits/vae,...] [--shard=1/4]
    [--data_dir=DIR] [--dry_run] [--record]

On CIFAR-10 and CelebA (paper), on Fashion-MNIST and patches of photographs (cpu), and on the digits
of scikit-learn, with NVAE besides. What the flags do: experiments/image_command.py.
"""
import functools

from experiments import command, image_command

if __name__ == '__main__':
  image_command.define_flags('table1', 'digits')
  command.run(functools.partial(image_command.run, 'table1'))
