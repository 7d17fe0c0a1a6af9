"""Real images that come with scikit-learn: nothing to download."""
import numpy as np

from mollification.data import dataset

# Share of a photograph's width that each split owns, from the left; 640 pixels make 480 + 64 + 96.
_BANDS = (('train', 0., .75), ('validation', .75, .85), ('test', .85, 1.))


def digits():
  """The 1,797 handwritten digits of scikit-learn: uint8 [N, 8, 8, 1] in 0..16, with labels.

  Train 1,257, validation 180, test 360, stratified: the examples, sorted by class and shuffled
  within it (seed 0), are dealt out ten at a time, two to test, one to validation, seven to train.
  The split is part of the data set and takes no seed. ImportError without scikit-learn.
  """
  source = dataset.require('sklearn.datasets', 'data').load_digits()
  x = source.images.astype(np.uint8)[..., None]
  labels = source.target.astype(np.int32)
  order = np.random.default_rng(0).permutation(len(x))
  order = order[np.argsort(labels[order], kind='stable')]
  place = np.arange(len(x)) % 10
  chosen = {'test': place < 2, 'validation': place == 2, 'train': place > 2}
  splits = {name: dataset.Split(name, x[order[mask]], labels[order[mask]])
            for name, mask in chosen.items()}
  return dataset.Dataset('digits', **splits, levels=17)


def _photographs():
  """Scikit-learn's two photographs, uint8 [427, 640, 3] each."""
  return dataset.require('sklearn.datasets', 'data').load_sample_images().images


def _patches(image, size, stride):
  """Every `stride`-th size × size window of an image [H, W, C], as [N, size, size, C]."""
  windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))
  windows = windows[::stride, ::stride].transpose(0, 1, 3, 4, 2)
  return windows.reshape(-1, size, size, image.shape[-1])


def photo_patches(size=32, stride=8):
  """size × size RGB patches, uint8, of scikit-learn's two photographs, every `stride` pixels.

  Split by region, so that no pixel belongs to two splits: train takes the left 480 columns of each
  photograph, validation the next 64, test the last 96. The defaults give 5,700 / 500 / 900
  patches, which overlap within a split. ValueError for a size above 64 or a stride below 1.
  """
  images = _photographs()
  height, width = min(image.shape[0] for image in images), min(image.shape[1] for image in images)
  bands = {name: (round(low * width), round(high * width)) for name, low, high in _BANDS}
  largest = min(height, *(high - low for low, high in bands.values()))
  if not 1 <= size <= largest:
    raise ValueError(f'size must lie in 1..{largest}, the narrowest region, got {size}.')
  if stride < 1:
    raise ValueError(f'stride must be positive, got {stride}.')
  splits = {
    name: dataset.Split(name, np.concatenate([_patches(image[:, low:high], size, stride)
                                              for image in images]))
    for name, (low, high) in bands.items()
  }
  return dataset.Dataset('photo_patches', **splits, levels=256)
