"""Data mollification for likelihood-based generative models: `x = mollify(x, level(step), keys)`.

This import needs jax and numpy alone; models, training and evaluation come with the extras.
"""
from mollification import curricula, mollifiers, schedules
from mollification.mollifiers import gaussian as mollify

__version__ = '0.1.0'
__all__ = ['__version__', 'curricula', 'mollifiers', 'mollify', 'schedules']
