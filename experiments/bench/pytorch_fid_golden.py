"""Files that pytorch-fid itself writes, and its distance between them.

  PYTHONPATH=. python experiments/bench/pytorch_fid_golden.py   # with the extra bench

Writes tests/evaluation/golden/pytorch_fid_{a,b}.npz by `save_fid_stats` over two folders of images,
and prints what `calculate_fid_given_paths` makes of the two, for tests/test_score.py. In place of
its network, whose weights are not here, stand the means of 4 x 4 squares of each image: what is
checked is the form of its files and its arithmetic.
"""
import pathlib
import tempfile

import numpy as np
import torch
from PIL import Image
from pytorch_fid import fid_score

FOLDER = pathlib.Path(__file__).parents[2] / 'tests' / 'evaluation' / 'golden'
SIDE, DIMS, COUNT = 16, 48, 100


class Squares(torch.nn.Module):
  """[N, 3, 16, 16] -> ([N, 48, 1, 1],), as pytorch-fid's network gives its features."""
  BLOCK_INDEX_BY_DIM = {DIMS: 0}   # noqa: RUF012

  def __init__(self, blocks):
    super().__init__()

  def forward(self, x):
    return [torch.nn.functional.adaptive_avg_pool2d(x, 4).reshape(len(x), DIMS, 1, 1)]


def _images(folder, seed):
  rng = np.random.default_rng(seed)
  for i in range(COUNT):
    pixels = rng.integers(0, 200 + 50 * seed, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(f'{folder}/{i:03}.png')


def main():
  """Write the files, print the distance."""
  fid_score.InceptionV3 = Squares
  paths = [str(FOLDER / f'pytorch_fid_{name}.npz') for name in 'ab']
  for seed, path in enumerate(paths):
    with tempfile.TemporaryDirectory() as folder:
      _images(folder, seed)
      fid_score.save_fid_stats([folder, path], 20, 'cpu', DIMS, num_workers=0)
  print(repr(float(fid_score.calculate_fid_given_paths(paths, 20, 'cpu', DIMS, num_workers=0))))


if __name__ == '__main__':
  main()
