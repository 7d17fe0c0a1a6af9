"""Float constants of a frozen TensorFlow graph (GraphDef), without TensorFlow.

Protocol buffers on the wire are (field number, wire type) and a value, over and over; the few
fields that a constant takes are read, the others are skipped. Field numbers: graph.proto,
node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto of TensorFlow.
"""
import math

import numpy as np

FLOAT = 1   # DT_FLOAT of types.proto


def read(content):
  """{node name: float32 array} of the nodes 'Const' in the bytes of a GraphDef.

  Raises ValueError where the bytes are no GraphDef, or end within a field.
  """
  constants = {}
  try:
    for number, value in _fields(content):
      if number == 1:
        name, array = _constant(value)
        if array is not None:
          constants[name] = array
  except (IndexError, TypeError, AttributeError, UnicodeDecodeError) as error:
    raise ValueError(f'not a GraphDef that can be read: {error}; a frozen graph is wanted, '
                     'classify_image_graph_def.pb.') from error
  return constants


def _varint(content, position):
  value = shift = 0
  while True:
    byte = content[position]
    position += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, position
    shift += 7
    if shift > 63:
      raise IndexError('a number of more than 64 bits')


def _fields(content):
  """(field number, value) over a message: int for varints, memoryview for all that has a length."""
  content, position = memoryview(content), 0
  while position < len(content):
    tag, position = _varint(content, position)
    kind = tag & 7
    if kind == 0:
      value, position = _varint(content, position)
    else:
      length = {1: 8, 5: 4}.get(kind)
      if kind == 2:
        length, position = _varint(content, position)
      if length is None or position + length > len(content):
        raise IndexError(f'field {tag >> 3} of wire type {kind} at byte {position} is unknown or '
                         'cut short')
      value, position = content[position:position + length], position + length
    yield tag >> 3, value


def _constant(node):
  """(name, array) of a NodeDef; the array is None unless it is a constant of floats."""
  fields = {1: b'', 2: b''}
  tensor = None
  for number, value in _fields(node):
    if number in fields:
      fields[number] = _bytes(value)
    elif number == 5:
      entry = dict(_fields(value))
      if _bytes(entry.get(1, b'')) == b'value' and 2 in entry:
        tensor = dict(_fields(entry[2])).get(8)
  if fields[2] != b'Const' or tensor is None:
    return None, None
  return fields[1].decode(), _tensor(tensor)


def _tensor(proto):
  dtype, shape, raw = 0, [], b''
  for number, value in _fields(proto):
    if number == 1:
      dtype = value
    elif number == 2:
      shape = [dict(_fields(dim)).get(1, 0) for key, dim in _fields(value) if key == 2]
    elif number in (4, 5):   # tensor_content, or float_val (packed or not)
      raw += _bytes(value)
  if dtype != FLOAT:
    return None
  elements = math.prod(shape)
  if len(raw) == 4:   # one value stands for all
    return np.broadcast_to(np.frombuffer(raw, '<f4'), shape)
  if len(raw) != 4 * elements:
    raise IndexError(f'a tensor of shape {shape} with {len(raw)} bytes')
  return np.frombuffer(raw, '<f4').reshape(shape)


def _bytes(value):
  """The bytes of a field with a length; bytes(int) would be as many zeros as the file likes."""
  if isinstance(value, int):
    raise TypeError('a number where bytes belong')
  return bytes(value)
