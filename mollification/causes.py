"""What lies behind an error."""


def causes(error):
  """`error` and what it was raised from or amid, the last one first; not what `from None` hides."""
  while error is not None:
    yield error
    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
